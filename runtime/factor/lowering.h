// From a contraction order to products that kernels run (kernels/api/products.h).
//
// The x-tensor of a token lies in memory as a sequence of legs, slowest first. A product sums its
// innermost legs, whose order is free; the legs before them are rows. Of the legs that the product
// adds, some go in front of the rows ("front") and some behind ("back"): whichever way makes the
// legs that the next step sums innermost, so that no pass transposes anything. Where no choice does
// that, a gather (a permutation of x) goes before the step, priced as what it is.
//
// Cores whose legs all remain (S of U S V) become the scale of the product before them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/factor/contraction.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

struct LoweredStep {
  std::vector<int> cores;   // folded into W [n, k] at load, where there are several
  std::vector<int> scales;  // cores whose product over the legs of n is the epilogue's scale
  // W's rows are [front..., back...], its columns [summed...]; x's rows are [rows...].
  std::vector<int> front_legs, back_legs, row_legs, summed_legs;
  int64_t n = 0, k = 0, rows = 1;
  // The first columns of the result are x itself and W holds the n that follow.
  int64_t identity_rows = 0;
  int64_t run = 0;  // columns that stay innermost; 0: there are no rows
  // Before the step: x, whose legs lie as `gather_from`, is gathered into [row_legs, summed_legs].
  bool gathers = false;
  std::vector<int> gather_from;
  // W is the block-encoded core itself; otherwise floats. `integer_codes`: its values are integers
  // times a scale, so that int8 dot products can use them (nf4's are not).
  bool block_encoded = false;
  bool integer_codes = false;

  int64_t multiply_adds_per_token() const { return n * k * rows; }
  // Elements of the result of a token.
  int64_t out_elements() const { return (identity_rows + n) * rows; }
};

struct Lowering {
  std::vector<LoweredStep> steps;
  // The legs of the last result, when they are not in the order of the output: it is gathered.
  bool gathers_output = false;
  std::vector<int> output_from;
  // Cores that are decoded to floats at load since no product can use their blocks as they lie.
  std::vector<int> decoded;

  int num_gathers() const;
  // Of the index lists that its gathers read.
  int64_t index_bytes() const;
};

// Columns from one gathered row to the next. The op writes whole blocks of 16 columns: rows are
// padded until they fill them.
int64_t GatheredRowColumns(int64_t rows, int64_t columns);

// False, and why in *reason, for an order that no sequence of products executes. Requires fewer
// than 32 legs.
bool Lower(const TermLegs& legs, const Term& term, const ContractionOrder& order, Lowering* result,
           std::string* reason);

}  // namespace rankine
