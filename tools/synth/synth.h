// A model folder of random weights: the speed of a shape, a form and an encoding can be measured
// without the weights of any real model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "models/config.h"
#include "tools/synth/forms.h"

namespace rankine {

struct SynthOptions {
  ModelConfig config;  // of a Llama model; written with random_weights set
  FormOptions form;    // of all linears but lm_head
  // Of lm_head, which is dense. Absent: form.encoding; an embedding that is lm_head too, like any
  // other, is then float: as form.encoding where that is, else bf16.
  std::optional<Encoding> head_encoding;
  uint64_t seed = 0;
  int threads = 0;  // 0 = the cores this process may run on
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
};

struct SynthReport {
  int64_t linears = 0;            // all but lm_head
  int64_t dense_parameters = 0;   // of these, as dense matrices
  int64_t stored_parameters = 0;  // of these, as written
  int64_t tensors = 0;
  int64_t bytes = 0;            // of all tensors
  double generate_seconds = 0;  // making the numbers
  double seconds = 0;           // that, and writing them to the disk
};

// Writes `out`, which must not exist; it appears complete or not at all. No tokenizer. The same
// options give the same bytes, whatever `threads` is. kInvalidArgument: options that do not go
// together, or do not fit a linear (named).
absl::StatusOr<SynthReport> SynthesizeModel(const SynthOptions& options, const std::string& out);

}  // namespace rankine
