// The steps by which a LinearGroup is computed: plain values, made once, the same for every token
// count. Running them allocates nothing and branches on no format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

// Where activations lie: three places of the caller's, then the plan's own intermediates.
inline constexpr int kInputSlot = 0;      // f32 or bf16
inline constexpr int kQuantizedSlot = 1;  // the same input as i8
inline constexpr int kOutputSlot = 2;     // f32
inline constexpr int kFirstIntermediate = 3;

// Beyond each intermediate: kernels may read up to 63 columns past the last row. Run sets it to
// zero.
inline constexpr int64_t kPlanSlackBytes = 256;

// An intermediate: for each token `stride` elements (i8: bytes) in the workspace.
struct PlanSlot {
  DType dtype = DType::kF32;
  int64_t columns = 0;  // of a token
  int64_t stride = 0;
  int64_t offset_bytes = 0;  // in the workspace, for each token; a multiple of 64
  // Columns from here on are read beside others but written by no step: Run sets them to zero.
  int64_t zero_from = -1;
};

// Rows of x, summed with a core: see kernels/api/products.h.
struct PlanProduct {
  int core = -1;         // index into the group's packed cores
  int64_t core_row = 0;  // first row of the core, a multiple of 16
  int64_t n = 0, k = 0;  // of the core, from that row on
  int scale = -1;        // index into the group's vectors; -1 = none
  int bias = -1;
  int64_t vector_offset = 0;  // into both
  int x = kInputSlot;
  int64_t x_column = 0;
  int64_t x_row_columns = 0;  // stride of x's rows, in columns, where a token has several
  int64_t rows = 1;           // of x, for each token
  int y = kOutputSlot;
  int64_t y_column = 0;
  int64_t run = 0, run_stride = 0;
  bool accumulate = false;  // adds to what an earlier step of the plan wrote
  DType compute = DType::kF32;
  int64_t weight_bytes = 0;
  // For prefixes of the rank:
  struct Part {
    int sorted_matrix = -1;  // whose sorted leg the part's rows are; -1: of none
    int64_t row = 0, n = 0;  // from core_row on
  };
  std::vector<Part> parts;         // of n, in order; several matrices may stand in one core
  int sorted_columns_matrix = -1;  // k is this matrix's sorted leg

  int64_t multiply_adds_per_token() const { return n * k * rows; }
};

enum class StepKind : uint8_t { kProducts, kConvert, kHadamard, kPermute, kAdd };

// The one operation of a step that is not products.
struct PlanElementwise {
  int x = kInputSlot;
  int64_t x_column = 0;
  int64_t rows = 1;  // x and y have that many rows of `columns` a token
  int64_t columns = 0;
  int64_t x_row_columns = 0;  // strides of their rows where there are several
  int64_t y_row_columns = 0;
  int y = -1;
  int64_t y_column = 0;
  int sorted_columns_matrix = -1;  // the columns are this matrix's sorted leg
  int vector = -1;  // kHadamard: signs; kAdd: bias; kPermute: index into the group's index lists
  bool accumulate = false;  // kAdd
  // kHadamard only. `block` and `bias`: indices into the group's vectors. Where y is the output, x
  // is scratch that no other step reads.
  int block = -1;
  int64_t block_size = 1;
  bool transposed = false;
  int bias = -1;
  int quantized = -1;           // a slot for y as i8
  bool only_quantized = false;  // y is scratch
};

// One parallel region that ends in one barrier.
struct PlanStep {
  StepKind kind = StepKind::kProducts;
  std::vector<PlanProduct> products;
  PlanElementwise elementwise;
};

struct PlanPrediction {
  int64_t bytes = 0;  // weights and activations
  int64_t flops = 0;
  double microseconds = 0;
};

struct ContractionPlan {
  DType compute = DType::kF32;                        // of the dense input: kF32 or kBF16
  bool needs_dense = false, needs_quantized = false;  // forms of the input
  std::vector<PlanStep> steps;
  std::vector<PlanSlot> intermediates;  // slot kFirstIntermediate + i
  int64_t input_columns = 0;
  int64_t output_columns = 0;         // padded to 16 a matrix
  int64_t workspace_token_bytes = 0;  // of all intermediates
  // Tokens are taken in passes of this many, so that intermediates stay in the caches and the
  // workspace is bounded. Results do not depend on it.
  int64_t pass_tokens = 0;
  // Columns [begin, end) of the output that no product writes though others read them: Run sets
  // them to zero.
  struct Columns {
    int64_t begin = 0, end = 0;
  };
  std::vector<Columns> output_pads;
  std::vector<std::string> expressions;  // of each matrix: "((x V) S) U"
  // Of each matrix: its sorted leg's extent, and why no prefix of it can be run; empty = it can.
  std::vector<int64_t> sorted_extents;
  std::vector<std::string> fixed_rank;

  int64_t weight_bytes() const;
  // Multiplications and additions of the products.
  int64_t operations_per_token() const;
  // Of the workspace that Run takes for that many tokens.
  int64_t workspace_bytes(int64_t num_tokens) const;
  DType SlotDType(int slot) const;
  StepCost CostOf(const PlanStep& step, int64_t num_tokens, const DeviceProfile& profile) const;
  PlanPrediction Predict(int64_t num_tokens, const DeviceProfile& profile) const;
};

}  // namespace rankine
