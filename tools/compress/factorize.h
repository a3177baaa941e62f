// A model goes in, a model with factored linears comes out (docs/factorize.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "tools/compress/methods/settings.h"
#include "tools/compress/progress.h"
#include "tools/compress/search/model_loss.h"

namespace rankine {

struct FactorizeOptions {
  std::string method;           // of tools/compress/methods/method.h
  OptionValues method_options;  // those that the method declares

  // The budget: one of these, else keep. Of the selected linears together.
  double keep = 0.8;          // share of parameters, in (0, 1]
  double bits = 0;            // bits for each weight, everything counted
  int64_t bytes = 0;          // the same as bytes of all
  int64_t rank = 0;           // the size of every bond
  int64_t rank_multiple = 1;  // chosen ranks are multiples of it
  // How linears share it (allocation/allocation.h); empty = uniform with a rank, else the method's
  // own.
  std::string allocation;
  std::string allocation_list;  // the file of the policy `list`
  // For policies that look at the model's loss: a text apart from that of the calibration and of
  // any evaluation, and how much they may look. What they measured is kept in the file, to be used
  // again, or without one until the run is complete.
  std::vector<std::string> validation_files;
  int64_t validation_windows = 8;   // at even distances over the text
  int64_t validation_window = 512;  // tokens of each
  std::string search_file;
  SearchSettings search;

  // Text for methods that need it; with others, gives weighted_error.
  std::vector<std::string> calibration_files;
  int64_t calibration_windows = 48;    // at even distances over the text
  int64_t window = 512;                // tokens of each
  std::string only_regex, skip_regex;  // searched in names as "model.layers.3.mlp.up_proj"
  Encoding factor_encoding = Encoding::Float(DType::kBF16);  // of U, V and their like
  // Where a layer's statistics are read from, or, with a text, left for other runs; empty = not
  // kept.
  std::string statistics_folder;
  std::string fisher_file;  // squared gradients (fisher_file.h), for methods that need them
  int threads = 0;          // 0 = the cores this process may run on
};

struct LayerReport {
  std::string name;
  int64_t rank = 0;           // 0 = left dense: the budget allows no smaller form
  double relative_error = 0;  // ||W - W'||_F / ||W||_F of the factors as stored
  // sqrt(E||y - y'||^2 / E||y||^2) over the calibration text; absent without one.
  std::optional<double> weighted_error;
  int64_t dense_parameters = 0;
  int64_t kept_parameters = 0;  // the r numbers of S, which can be folded away, not counted
  int64_t kept_bits = 0;        // everything counted but a bias that was there before
};

// What a policy that looks at the model's loss has seen.
struct SearchReport {
  MeasuredLoss unchanged, planned;  // on the validation text, before and after
  int64_t measured = 0;             // points, the unchanged model among them
  // Of all that replaced one linear alone: that of least loss.
  std::string best_linear;  // empty = no linear was measured alone
  int64_t best_rank = 0;
  MeasuredLoss best;
};

struct FactorizeReport {
  std::vector<LayerReport> layers;  // every selected linear
  std::optional<SearchReport> search;
  double parameters_kept = 0;  // share over all selected linears
  double bits_per_weight = 0;  // of their dense parameters
};

// Writes the folder `out`: it appears complete or not at all. Progress is kept in `out`.factorize:
// a run that was interrupted, at any point and in any way, goes on when it is repeated with the
// same arguments and gives the same bytes. Memory: the weights and statistics of one layer, or
// of two small ones, the hidden states of the calibration text, and the model itself while it
// calibrates.
// kInvalidArgument: bad options, too little text, values that are not finite. kAlreadyExists: `out`
// does. kFailedPrecondition: a selected linear is factored already, `out`.factorize belongs to
// other arguments, or the statistics folder to another model or text. kCancelled: the callback
// said so.
absl::StatusOr<FactorizeReport> Factorize(const std::string& model_path, const std::string& out,
                                          const FactorizeOptions& options,
                                          const ProgressFn& progress = {});

}  // namespace rankine
