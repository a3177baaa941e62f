// A cell of the planner's benchmark: a random matrix in some form and encoding, and a token count.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/synth/forms.h"

namespace rankine {

struct Cell {
  int64_t out = 0;
  int64_t in = 0;
  FormOptions form;
  int64_t tokens = 0;
  std::string matrix;  // all but the tokens, as written: "4096 x 4096, svd, keep 0.5, bf16"
};

// The cells of a CSV text with the header
//   out,in,form,keep,rank,bond,sites,encode,factor_encode,tokens
// in its order. Errors name `source` and the line.
absl::StatusOr<std::vector<Cell>> ParseCells(const std::string& text, const std::string& source);

}  // namespace rankine
