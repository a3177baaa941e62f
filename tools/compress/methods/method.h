// What a factorisation method is, and the table of all of them. A method turns a weight, what
// calibration knows about its input, and a budget into the cores of a FactoredMatrix. Which
// linears, which budget for each and where statistics come from is not its business; nor is the
// error, which is measured on the cores as they are stored. To add one: a file pair here, and a
// line of the table (method_table.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/dtype.h"
#include "runtime/factor/factored_matrix.h"
#include "tools/compress/attention_heads.h"
#include "tools/compress/linalg.h"
#include "tools/compress/methods/budget.h"
#include "tools/compress/methods/settings.h"
#include "tools/compress/statistics.h"
#include "tools/compress/stored_tensor.h"

namespace rankine {

struct MethodInput {
  std::string name;                  // of the linear: "model.layers.0.mlp.up_proj"
  const Matrix64* weight = nullptr;  // W [m, n]
  const Moments* moments = nullptr;  // of its input in the dense model; null = no calibration
  // Of the input that it gets once all before it are factored; null = not known. Only for methods
  // whose `sees_prefix` is set.
  const Moments* prefix_moments = nullptr;
  // sum_i E[g_ij^2] of the language-model loss by input feature j [n]; null = none.
  const std::vector<double>* fisher = nullptr;
  const std::vector<double>* bias = nullptr;  // of the linear as it is [m]; null = none
  std::string bias_tensor;                    // its name; empty = none
  // Of an attention projection, from the model's config; absent = none that is known.
  std::optional<AttentionHeads> heads;
  Budget budget;
  Encoding encoding = Encoding::Float(DType::kBF16);  // of the factors' large cores
  const MethodSettings* settings = nullptr;           // null = the method has no options
};

// Terms of `matrix` empty: the linear is better left dense (no form that the method has is
// smaller). Methods are not asked where the budget holds the linear as it is.
struct Factorization {
  FactoredMatrix matrix;              // provenance is the caller's to fill
  std::vector<StoredTensor> tensors;  // every tensor that `matrix` names, but for the old bias
  // The new bias as stored [m], when matrix.bias_tensor is one of `tensors`.
  std::vector<double> bias;
  int64_t rank = 0;  // the largest bond
};

// A linear, for methods that factor several of a layer together.
struct LinearShape {
  std::string name;
  int64_t out_features = 0;
  int64_t in_features = 0;
};

struct Method {
  std::string_view name;  // as on the command line
  std::string_view help;  // what it minimises, in one line
  bool needs_calibration = false;
  bool needs_fisher = false;
  // Wants prefix_moments: layers are then factored in order, and the calibration text runs through
  // what is factored already.
  bool sees_prefix = false;
  absl::Span<const MethodOption> options = {};
  // The allocation policy that it is used with where none is named.
  std::string_view default_allocation = "uniform";
  // Whether it gives a linear without a bias one, which counts. Null: never.
  bool (*adds_bias)(const MethodSettings& settings) = nullptr;

  // One of the two; both where settings decide whether linears go together, and then the second is
  // called. Thread-safe and deterministic. Errors need not name the linear.
  absl::StatusOr<Factorization> (*factorize)(const MethodInput& input) = nullptr;
  // Of linears that `join` put together: as many results, in order. Cores that several matrices
  // share stand in the tensors of one of them. Budgets are each linear's own share; their sum is
  // what the method may use.
  absl::StatusOr<std::vector<Factorization>> (*factorize_jointly)(
      absl::Span<const MethodInput> inputs) = nullptr;

  // Partitions a layer's selected linears (indices into them) into what is factored together.
  // Null: each alone.
  std::vector<std::vector<size_t>> (*join)(absl::Span<const LinearShape> linears,
                                           const MethodSettings& settings) = nullptr;

  // Squared absolute loss of dropping each slice k = 0, 1, .. of the largest possible rank, in
  // falling order, for methods whose slices are independent; allocation policies that weigh slices
  // need it. Null: none.
  absl::StatusOr<std::vector<double>> (*slice_losses)(const MethodInput& input) = nullptr;
};

absl::Span<const Method> Methods();
// kInvalidArgument lists the known names.
absl::StatusOr<const Method*> FindMethod(std::string_view name);

// Runs either function of the method; results in the order of the inputs.
absl::StatusOr<std::vector<Factorization>> RunMethod(const Method& method,
                                                     absl::Span<const MethodInput> inputs);

}  // namespace rankine
