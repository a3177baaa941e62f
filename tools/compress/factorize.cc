#include "tools/compress/factorize.h"
#include "models/text.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/cpu/thread_pool.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/manifest.h"
#include "models/status_macros.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/linears.h"
#include "tools/compress/model_writer.h"
#include "tools/compress/statistics_provider.h"
#include "tools/compress/work_folder.h"
#include "tools/eval/token_windows.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

// Shares of the progress bar, from the times of the demo model: calibration takes about two thirds
// of a layer, writing the folder a fiftieth of the whole.
constexpr double kCalibrationShare = 0.65;
constexpr double kLayersShare = 0.98;

absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const bool exists = fs::exists(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  return exists;
}

absl::Status CheckOptions(const FactorizeOptions& o, const Method& method) {
  if (!(o.keep > 0 && o.keep <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("keep ", o.keep, " is outside (0, 1]: it is the share of parameters kept"));
  }
  if (!IsFloat(o.factor_dtype)) {
    return absl::InvalidArgumentError("factors are stored as f32, f16 or bf16");
  }
  if (method.needs_calibration && o.calibration_files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("method ", o.method, " needs a calibration text: give --calibration FILE"));
  }
  if (!o.statistics_folder.empty() && o.calibration_files.empty()) {
    return absl::InvalidArgumentError("a statistics folder needs the calibration text it is of");
  }
  if (o.calibration_windows < 1 || o.window < 1) {
    return absl::InvalidArgumentError(absl::StrCat("bad calibration: ", o.calibration_windows,
                                                   " windows of ", o.window, " tokens"));
  }
  if (o.threads < 0) return absl::InvalidArgumentError("threads must not be negative");
  return absl::OkStatus();
}

// The matrices of `old` that none of `fresh` replaces, then those.
std::vector<FactoredMatrix> Merged(const std::vector<FactoredMatrix>& old,
                                   std::vector<FactoredMatrix> fresh) {
  std::unordered_set<std::string> names;
  for (const FactoredMatrix& m : fresh) names.insert(m.name);
  std::vector<FactoredMatrix> merged;
  std::copy_if(old.begin(), old.end(), std::back_inserter(merged),
               [&](const FactoredMatrix& m) { return names.count(m.name) == 0; });
  std::move(fresh.begin(), fresh.end(), std::back_inserter(merged));
  return merged;
}

double Root(double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; }

// One factorisation, from the checked options to the report.
class Factorizer {
 public:
  Factorizer(const std::string& out, const FactorizeOptions& options, const Method& method,
             const ProgressFn& progress)
      : out_(out), options_(options), method_(method), reporter_(progress) {}

  absl::StatusOr<FactorizeReport> Run(const std::string& model_path);

 private:
  struct LinearResult {
    LayerReport report;
    std::optional<Factorization> factors;  // absent = left dense
  };

  absl::Status Prepare(const std::string& model_path);
  absl::Status ReadCalibration(const std::string& model_digest);
  WorkArguments Arguments(const std::string& model_digest) const;
  absl::Status FactorLayers();
  absl::Status FactorLayer(int64_t layer, const std::vector<const LinearInfo*>& linears);
  absl::StatusOr<LinearResult> FactorLinear(const LinearInfo& linear,
                                            const LayerStatistics* statistics) const;
  absl::StatusOr<LayerPart> FactorInParallel(const std::vector<const LinearInfo*>& linears,
                                             const LayerStatistics* statistics) const;
  absl::Status Write();
  bool IsAlreadyWritten(const std::vector<FactoredMatrix>& matrices) const;
  absl::Status Report(double layer_fraction, const std::string& what) const;

  const std::string& out_;
  const FactorizeOptions& options_;
  const Method& method_;
  ProgressReporter reporter_;

  std::unique_ptr<Checkpoint> checkpoint_;
  std::map<int64_t, std::vector<const LinearInfo*>> by_layer_;
  std::vector<LinearInfo> linears_;
  std::optional<StatisticsProvider> statistics_;
  std::string calibration_digest_;
  int64_t calibration_tokens_ = 0;
  std::optional<WorkFolder> work_;

  int64_t layers_done_ = 0;
  FactorizeReport report_;
  std::vector<FactoredMatrix> matrices_;
};

absl::Status Factorizer::Report(double layer_fraction, const std::string& what) const {
  const auto layers = static_cast<double>(by_layer_.size());
  const double fraction =
      kLayersShare * (static_cast<double>(layers_done_) + layer_fraction) / layers;
  return reporter_.Report(fraction, what);
}

absl::Status Factorizer::ReadCalibration(const std::string& model_digest) {
  if (options_.calibration_files.empty()) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(*checkpoint_));
  RK_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                      ReadTextTokens(*tokenizer, options_.calibration_files));
  auto views = SelectWindows(tokens, options_.window, options_.calibration_windows);
  if (!views.ok()) {
    return absl::Status(views.status().code(),
                        absl::StrCat("calibration: ", views.status().message()));
  }
  StatisticsProvider::Options provider{.checkpoint = checkpoint_.get(),
                                       .folder = options_.statistics_folder,
                                       .threads = options_.threads};
  Fingerprint digest;
  for (const auto& view : *views) {
    provider.windows.emplace_back(view.begin(), view.end());
    digest.Add(TokensFingerprint(view));
  }
  calibration_digest_ = digest.Hex();
  calibration_tokens_ = options_.window * options_.calibration_windows;
  provider.stamp = absl::StrCat(model_digest, "-", calibration_digest_);
  statistics_.emplace(std::move(provider));
  return absl::OkStatus();
}

WorkArguments Factorizer::Arguments(const std::string& model_digest) const {
  return {{"model", model_digest},
          {"method", options_.method},
          {"keep", absl::StrFormat("%.17g", options_.keep)},
          {"calibration text", calibration_digest_},
          {"--only", options_.only_regex},
          {"--skip", options_.skip_regex},
          {"dtype of factors", std::string(Name(options_.factor_dtype))}};
}

absl::Status Factorizer::Prepare(const std::string& model_path) {
  const std::string work_path = WorkFolder::PathOf(out_);
  RK_ASSIGN_OR_RETURN(const bool is_there, Exists(out_));
  RK_ASSIGN_OR_RETURN(const bool is_begun, Exists(work_path));
  if (is_there && !is_begun) {
    return absl::AlreadyExistsError(
        absl::StrCat(out_, " exists already: remove it or choose another name"));
  }
  RK_ASSIGN_OR_RETURN(checkpoint_, OpenCheckpoint(model_path));
  RK_ASSIGN_OR_RETURN(linears_,
                      SelectLinears(*checkpoint_, options_.only_regex, options_.skip_regex));
  for (const LinearInfo& linear : linears_) by_layer_[linear.layer].push_back(&linear);
  RK_RETURN_IF_ERROR(reporter_.Report(0, "reading the model"));
  RK_ASSIGN_OR_RETURN(const std::string model_digest, ModelFingerprint(*checkpoint_));
  RK_RETURN_IF_ERROR(ReadCalibration(model_digest));
  RK_ASSIGN_OR_RETURN(work_, WorkFolder::Open(out_, Arguments(model_digest)));
  return absl::OkStatus();
}

absl::StatusOr<Factorizer::LinearResult> Factorizer::FactorLinear(
    const LinearInfo& linear, const LayerStatistics* statistics) const {
  LinearResult result;
  const int64_t m = linear.out_features(), n = linear.in_features();
  result.report = {.name = linear.name, .dense_parameters = m * n, .kept_parameters = m * n};
  const Moments* moments = statistics == nullptr ? nullptr : statistics->Find(linear.name);
  if (statistics != nullptr && moments == nullptr) {
    return absl::InternalError(absl::StrCat("calibration has not seen the input of ", linear.name));
  }
  if (moments != nullptr) result.report.weighted_error = 0;
  if (RankFromKeep(options_.keep, m, n) == 0) return result;
  RK_ASSIGN_OR_RETURN(const Matrix64 w, ReadWeight(*checkpoint_, linear));
  auto factors = method_.factorize({.name = linear.name,
                                    .weight = &w,
                                    .moments = moments,
                                    .keep = options_.keep,
                                    .dtype = options_.factor_dtype,
                                    .bias_tensor = linear.bias_tensor});
  if (!factors.ok()) {
    return absl::Status(factors.status().code(),
                        absl::StrCat(linear.name, ": ", factors.status().message()));
  }
  const Matrix64 error = Difference(w, factors->product);
  result.report.rank = factors->rank;
  result.report.kept_parameters = factors->rank * (m + n);
  result.report.relative_error = Root(SquaredNorm(error), SquaredNorm(w));
  Provenance& p = factors->matrix.provenance;
  p = {.method = options_.method,
       .keep = options_.keep,
       .calibration = calibration_digest_,
       .calibration_tokens = calibration_tokens_,
       .relative_error = result.report.relative_error};
  if (moments != nullptr) {
    p.weighted_error =
        Root(SquaredWeightedNorm(error, moments->second), SquaredWeightedNorm(w, moments->second));
    result.report.weighted_error = p.weighted_error;
  }
  result.factors = *std::move(factors);
  return result;
}

// Linears are independent and each is computed whole by one thread, so the result does not depend
// on how many there are. The largest go first.
absl::StatusOr<LayerPart> Factorizer::FactorInParallel(
    const std::vector<const LinearInfo*>& linears, const LayerStatistics* statistics) const {
  std::vector<size_t> order(linears.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return linears[a]->out_features() * linears[a]->in_features() >
           linears[b]->out_features() * linears[b]->in_features();
  });
  std::vector<absl::StatusOr<LinearResult>> results(linears.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i = next++; i < order.size(); i = next++) {
      results[order[i]] = FactorLinear(*linears[order[i]], statistics);
    }
  };
  const size_t threads = options_.threads > 0 ? options_.threads : DefaultNumThreads();
  std::vector<std::thread> helpers;
  for (size_t t = 1; t < std::min(threads, linears.size()); ++t) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  LayerPart part;
  for (auto& result : results) {
    if (!result.ok()) return result.status();
    part.reports.push_back(std::move(result->report));
    if (!result->factors) continue;
    part.matrices.push_back(std::move(result->factors->matrix));
    std::move(result->factors->tensors.begin(), result->factors->tensors.end(),
              std::back_inserter(part.tensors));
  }
  return part;
}

absl::Status Factorizer::FactorLayer(int64_t layer, const std::vector<const LinearInfo*>& linears) {
  const std::string name =
      absl::StrCat("layer ", layer + 1, " of ", checkpoint_->config().num_layers, ": ");
  std::optional<LayerStatistics> statistics;
  if (statistics_) {
    RK_ASSIGN_OR_RETURN(statistics, statistics_->Get(layer, [&](double fraction) {
      return Report(kCalibrationShare * fraction, name + "calibrating");
    }));
  }
  RK_RETURN_IF_ERROR(Report(statistics_ ? kCalibrationShare : 0, name + "factoring"));
  RK_ASSIGN_OR_RETURN(const LayerPart part,
                      FactorInParallel(linears, statistics ? &*statistics : nullptr));
  return WritePart(work_->PartPath(layer), part);
}

absl::Status Factorizer::FactorLayers() {
  // Parts of an earlier run count as done for the pace of this one.
  std::map<int64_t, bool> done;
  for (const auto& entry : by_layer_) {
    done[entry.first] = ReadPart(work_->PartPath(entry.first)).ok();
    layers_done_ += done[entry.first] ? 1 : 0;
  }
  reporter_.SetStart(kLayersShare * static_cast<double>(layers_done_) /
                     static_cast<double>(by_layer_.size()));
  for (const auto& [layer, linears] : by_layer_) {
    if (done[layer]) continue;
    RK_RETURN_IF_ERROR(FactorLayer(layer, linears));
    ++layers_done_;
    RK_RETURN_IF_ERROR(Report(0, absl::StrCat("layer ", layer + 1, ": done")));
  }
  return absl::OkStatus();
}

// True when a run that was killed after its last rename has left the result.
bool Factorizer::IsAlreadyWritten(const std::vector<FactoredMatrix>& matrices) const {
  std::ifstream in(out_ + "/factorization.json", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return !matrices.empty() && text == SerializeManifest(matrices);
}

absl::Status Factorizer::Write() {
  RemoveStaleStaging(out_);
  FactorizedModel model{.source = checkpoint_.get(), .block_dtype = options_.factor_dtype};
  std::vector<FactoredMatrix> fresh;
  int64_t dense = 0, kept = 0;
  for (const auto& entry : by_layer_) {
    model.part_paths.push_back(work_->PartPath(entry.first));
    RK_ASSIGN_OR_RETURN(LayerPart part, ReadPart(model.part_paths.back()));
    std::move(part.matrices.begin(), part.matrices.end(), std::back_inserter(fresh));
    for (LayerReport& r : part.reports) {
      dense += r.dense_parameters;
      kept += r.kept_parameters;
      report_.layers.push_back(std::move(r));
    }
  }
  model.matrices = Merged(checkpoint_->factored(), std::move(fresh));
  report_.parameters_kept = static_cast<double>(kept) / static_cast<double>(dense);
  RK_ASSIGN_OR_RETURN(const bool is_there, Exists(out_));
  if (!is_there || !IsAlreadyWritten(model.matrices)) {
    RK_RETURN_IF_ERROR(WriteFactorizedModel(model, out_, [&](double fraction) {
      return reporter_.Report(kLayersShare + (1 - kLayersShare) * fraction, "writing the model");
    }));
  }
  return work_->Remove();
}

absl::StatusOr<FactorizeReport> Factorizer::Run(const std::string& model_path) {
  RK_RETURN_IF_ERROR(Prepare(model_path));
  RK_RETURN_IF_ERROR(FactorLayers());
  RK_RETURN_IF_ERROR(Write());
  return report_;
}

}  // namespace

absl::StatusOr<FactorizeReport> Factorize(const std::string& model_path, const std::string& out,
                                          const FactorizeOptions& options,
                                          const ProgressFn& progress) {
  RK_ASSIGN_OR_RETURN(const Method* method, FindMethod(options.method));
  RK_RETURN_IF_ERROR(CheckOptions(options, *method));
  return Factorizer(out, options, *method, progress).Run(model_path);
}

}  // namespace rankine
