#include "tools/compress/factorize.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/encode/encoding_name.h"
#include "models/status_macros.h"
#include "tools/compress/budget_plan.h"
#include "tools/compress/budget_planner.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/fisher_file.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/layer_pipeline.h"
#include "tools/compress/linears.h"
#include "tools/compress/model_writer.h"
#include "tools/compress/prefix_calibrator.h"
#include "tools/compress/search/model_search.h"
#include "tools/compress/statistics_provider.h"
#include "tools/compress/work_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

// Shares of the progress bar, from the times of the demo model: calibration takes about two thirds
// of a layer, writing the folder a fiftieth of the whole.
constexpr double kCalibrationShare = 0.65;
constexpr double kLayersShare = 0.98;
// Of a layer behind a factored prefix: two passes and their moments, of three.
constexpr double kObserveShare = 0.75;

absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const bool exists = fs::exists(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  return exists;
}

absl::Status CheckOptions(const FactorizeOptions& o, const Method& method) {
  RK_RETURN_IF_ERROR(CheckBudgetOptions(o, method));
  const bool has_statistics = !o.calibration_files.empty() || !o.statistics_folder.empty();
  if (method.needs_calibration && !has_statistics) {
    return absl::InvalidArgumentError(
        absl::StrCat("method ", o.method,
                     " needs a calibration text: give --calibration FILE, or --statistics of "
                     "rankine calibrate"));
  }
  if (method.sees_prefix && o.calibration_files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("method ", o.method,
                     " runs the text through what is factored: give --calibration FILE, beside "
                     "--statistics or alone"));
  }
  if (method.needs_fisher && o.fisher_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "method ", o.method,
        " needs the gradients' squares; make them with PYTHONPATH=tools/torch python -m "
        "rankine_torch fisher MODEL --text FILE --out FISHER.safetensors "
        "(tools/torch/README.md) and give --fisher FISHER.safetensors"));
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

// Of dense matrices that the source has in GGUF's blocks.
DType BlockDType(const FactorizeOptions& o) {
  return o.factor_encoding.IsFloat() ? o.factor_encoding.dtype : DType::kBF16;
}

// One factorisation, from the checked options to the report.
class Factorizer {
 public:
  Factorizer(const std::string& out, const FactorizeOptions& options, const Method& method,
             const AllocationPolicy& policy, const ProgressFn& progress)
      : out_(out), options_(options), method_(method), policy_(policy), reporter_(progress) {}

  absl::StatusOr<FactorizeReport> Run(const std::string& model_path);

 private:
  absl::Status Prepare(const std::string& model_path);
  absl::Status OpenStatistics(const StatisticsInfo& model);
  WorkArguments FactorArguments() const;
  WorkArguments Arguments(const std::string& model_digest) const;
  absl::Status FactorLayers();
  absl::StatusOr<std::unique_ptr<LayerWork>> ReadLayer(
      int64_t layer, const std::vector<const LinearInfo*>& linears);
  absl::Status FactorThese(const std::vector<int64_t>& layers);
  absl::Status FactorTheseBehindPrefix(const std::vector<int64_t>& layers);
  absl::Status Keep(int64_t layer, const LayerPart& part);
  absl::StatusOr<LayerPart> FactorBehindPrefix(int64_t layer, LayerInput input,
                                               const LayerProgress& progress);
  absl::Status AdvancePrefix(int64_t layer, const LayerProgress& progress);
  absl::Status PlanAllBudgets();
  absl::Status Write();
  absl::Status Report(double layer_fraction, const std::string& what) const;
  std::string NameOf(int64_t layer) const;

  const std::string& out_;
  const FactorizeOptions& options_;
  const Method& method_;
  const AllocationPolicy& policy_;
  ProgressReporter reporter_;

  std::unique_ptr<Checkpoint> checkpoint_;
  std::map<int64_t, std::vector<const LinearInfo*>> by_layer_;
  std::vector<LinearInfo> linears_;
  std::optional<FisherFile> fisher_;
  Allocation budgets_;  // of all linears
  std::optional<StatisticsProvider> statistics_;
  std::vector<std::vector<int32_t>> windows_;  // of the text, for methods that see the prefix
  std::unique_ptr<PrefixCalibrator> prefix_;   // null until it is needed
  MethodSettings settings_;
  FactorJob job_;
  std::optional<WorkFolder> work_;
  CalibrationText validation_;  // for policies that look at the model's loss
  StatisticsInfo model_info_;   // of the model alone

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

// From the calibration text, through the folder where there is one; or from the folder alone.
absl::Status Factorizer::OpenStatistics(const StatisticsInfo& model) {
  StatisticsProvider::Options provider{.checkpoint = checkpoint_.get(),
                                       .threads = options_.threads};
  StatisticsInfo info = model;
  if (!options_.calibration_files.empty()) {
    RK_ASSIGN_OR_RETURN(
        CalibrationText text,
        ReadCalibrationText(*checkpoint_, {options_.calibration_files, options_.calibration_windows,
                                           options_.window}));
    info.text_digest = text.digest;
    info.tokens = text.tokens;
    if (method_.sees_prefix) windows_ = text.windows;
    provider.windows = std::move(text.windows);
    // A policy that weighs slices or searches goes over the layers before they are factored.
    std::string folder = options_.statistics_folder;
    const bool looks_ahead = policy_.needs_losses || policy_.needs_model_loss;
    if (folder.empty() && looks_ahead) folder = WorkFolder::PathOf(out_) + "/statistics";
    if (!folder.empty()) {
      RK_ASSIGN_OR_RETURN(provider.folder, StatisticsFolder::Create(folder, info));
    }
  } else if (!options_.statistics_folder.empty()) {
    RK_ASSIGN_OR_RETURN(provider.folder, StatisticsFolder::Open(options_.statistics_folder));
    RK_RETURN_IF_ERROR(provider.folder->CheckModel(model.model_digest, model.model_name));
    info = provider.folder->info();
  } else {
    return absl::OkStatus();
  }
  job_.text_digest = info.text_digest;
  job_.text_tokens = info.tokens;
  statistics_.emplace(std::move(provider));
  return absl::OkStatus();
}

// Of the factors at given ranks.
WorkArguments Factorizer::FactorArguments() const {
  WorkArguments arguments{{"method", options_.method},
                          {"calibration text", job_.text_digest},
                          {"--fisher", fisher_ ? fisher_->digest() : ""},
                          {"encoding of factors", EncodingName(options_.factor_encoding)}};
  for (const auto& [name, value] : settings_.values()) {
    arguments.emplace_back("--" + name, value);
  }
  return arguments;
}

WorkArguments Factorizer::Arguments(const std::string& model_digest) const {
  WorkArguments arguments{{"model", model_digest},
                          {"keep", absl::StrFormat("%.17g", options_.keep)},
                          {"bits", absl::StrFormat("%.17g", options_.bits)},
                          {"rank", absl::StrCat(options_.rank)},
                          {"bytes", absl::StrCat(options_.bytes)},
                          {"rank multiple", absl::StrCat(options_.rank_multiple)},
                          {"allocation", options_.allocation},
                          {"allocation list", FileFingerprint(options_.allocation_list)},
                          {"--only", options_.only_regex},
                          {"--skip", options_.skip_regex}};
  for (auto& argument : FactorArguments()) arguments.push_back(std::move(argument));
  if (policy_.needs_model_loss) {
    arguments.emplace_back("validation text", validation_.digest);
    arguments.emplace_back("search settings", Describe(options_.search));
  }
  return arguments;
}

absl::Status Factorizer::Prepare(const std::string& model_path) {
  const std::string work_path = WorkFolder::PathOf(out_);
  RK_ASSIGN_OR_RETURN(const bool is_there, Exists(out_));
  RK_ASSIGN_OR_RETURN(const bool is_begun, Exists(work_path));
  if (is_there && !is_begun) {
    return absl::AlreadyExistsError(
        absl::StrCat(out_, " exists already: remove it or choose another name"));
  }
  RK_ASSIGN_OR_RETURN(
      settings_, MethodSettings::Create(method_.name, method_.options, options_.method_options));
  RK_ASSIGN_OR_RETURN(checkpoint_, OpenCheckpoint(model_path));
  RK_ASSIGN_OR_RETURN(linears_,
                      SelectLinears(*checkpoint_, options_.only_regex, options_.skip_regex));
  for (const LinearInfo& linear : linears_) by_layer_[linear.layer].push_back(&linear);
  RK_RETURN_IF_ERROR(reporter_.Report(0, "reading the model"));
  RK_ASSIGN_OR_RETURN(const std::string model_digest, ModelFingerprint(*checkpoint_));
  model_info_ = {.model_digest = model_digest, .model_name = ModelName(model_path)};
  RK_RETURN_IF_ERROR(OpenStatistics(model_info_));
  if (policy_.needs_model_loss) {
    RK_ASSIGN_OR_RETURN(validation_, ReadValidationText(*checkpoint_, options_, job_.text_digest));
  }
  if (method_.needs_fisher) {
    RK_ASSIGN_OR_RETURN(fisher_, FisherFile::Open(options_.fisher_file));
  }
  job_.checkpoint = checkpoint_.get();
  job_.method = &method_;
  job_.settings = &settings_;
  job_.encoding = options_.factor_encoding;
  job_.block_dtype = BlockDType(options_);
  const bool by_keep = options_.bits == 0 && options_.bytes == 0 && options_.rank == 0;
  job_.keep = by_keep && policy_.has_budget ? options_.keep : 0;
  job_.threads = options_.threads;
  RK_ASSIGN_OR_RETURN(work_, WorkFolder::Open(out_, Arguments(model_digest)));
  return absl::OkStatus();
}

absl::Status Factorizer::PlanAllBudgets() {
  PlannerArgs args{.options = &options_,
                   .job = &job_,
                   .linears = &linears_,
                   .statistics = statistics_ ? &*statistics_ : nullptr,
                   .fisher = fisher_ ? &*fisher_ : nullptr,
                   .model = model_info_,
                   .validation = validation_,
                   .factor_arguments = FactorArguments(),
                   .work_folder = WorkFolder::PathOf(out_)};
  args.progress = [this](const std::string& what) { return Report(0, what); };
  RK_ASSIGN_OR_RETURN(BudgetPlan plan, MakeBudgetPlan(args));
  budgets_ = std::move(plan.budgets);
  report_.search = std::move(plan.search);
  return absl::OkStatus();
}

std::string Factorizer::NameOf(int64_t layer) const {
  return absl::StrCat("layer ", layer + 1, " of ", checkpoint_->config().num_layers, ": ");
}

absl::StatusOr<std::unique_ptr<LayerWork>> Factorizer::ReadLayer(
    int64_t layer, const std::vector<const LinearInfo*>& linears) {
  auto work = std::make_unique<LayerWork>();
  work->layer = layer;
  if (statistics_) {
    RK_ASSIGN_OR_RETURN(work->statistics, statistics_->Get(layer, [&](double fraction) {
      return Report(kCalibrationShare * fraction, NameOf(layer) + "calibrating");
    }));
  }
  RK_RETURN_IF_ERROR(Report(statistics_ ? kCalibrationShare : 0, NameOf(layer) + "factoring"));
  RK_ASSIGN_OR_RETURN(work->fisher, ReadFisher(fisher_ ? &*fisher_ : nullptr, linears));
  work->input = {.linears = linears,
                 .budgets = budgets_,
                 .statistics = work->statistics ? &*work->statistics : nullptr,
                 .fisher = work->fisher ? &*work->fisher : nullptr};
  return work;
}

absl::Status Factorizer::Keep(int64_t layer, const LayerPart& part) {
  RK_RETURN_IF_ERROR(WritePart(work_->PartPath(layer), part));
  ++layers_done_;
  return Report(0, absl::StrCat("layer ", layer + 1, ": done"));
}

absl::Status Factorizer::FactorThese(const std::vector<int64_t>& layers) {
  LayerPipeline pipeline(
      job_, [this](int64_t layer, const LayerPart& part) { return Keep(layer, part); });
  for (const int64_t layer : layers) {
    // Calibration has the threads for itself.
    if (!options_.calibration_files.empty()) RK_RETURN_IF_ERROR(pipeline.Drain());
    RK_ASSIGN_OR_RETURN(auto work, ReadLayer(layer, by_layer_[layer]));
    RK_RETURN_IF_ERROR(pipeline.Add(std::move(work)));
  }
  return pipeline.Drain();
}

absl::Status Factorizer::FactorTheseBehindPrefix(const std::vector<int64_t>& layers) {
  for (const int64_t layer : layers) {
    RK_ASSIGN_OR_RETURN(const auto work, ReadLayer(layer, by_layer_[layer]));
    RK_ASSIGN_OR_RETURN(const LayerPart part,
                        FactorBehindPrefix(layer, work->input, [&](double fraction) {
                          return Report(kCalibrationShare + (1 - kCalibrationShare) * fraction,
                                        NameOf(layer) + "factoring behind what is factored");
                        }));
    RK_RETURN_IF_ERROR(Keep(layer, part));
  }
  return absl::OkStatus();
}

// Runs the text through the layers before `layer` as the parts have them.
absl::Status Factorizer::AdvancePrefix(int64_t layer, const LayerProgress& progress) {
  if (prefix_ == nullptr) {
    RK_ASSIGN_OR_RETURN(prefix_,
                        PrefixCalibrator::Create(*checkpoint_, windows_, options_.threads));
  }
  while (prefix_->next_layer() < layer) {
    LayerPart part;
    if (by_layer_.count(prefix_->next_layer()) != 0) {
      RK_ASSIGN_OR_RETURN(part, ReadPart(work_->PartPath(prefix_->next_layer())));
    }
    RK_RETURN_IF_ERROR(prefix_->Advance(part, [&](double) { return progress(0); }));
  }
  return absl::OkStatus();
}

// A layer behind all that is factored before it, then the text through the layer as it is now.
absl::StatusOr<LayerPart> Factorizer::FactorBehindPrefix(int64_t layer, LayerInput input,
                                                         const LayerProgress& progress) {
  RK_RETURN_IF_ERROR(AdvancePrefix(layer, progress));
  RK_ASSIGN_OR_RETURN(const LayerStatistics statistics, prefix_->Observe([&](double fraction) {
    return progress(kObserveShare * fraction);
  }));
  input.prefix_statistics = &statistics;
  RK_ASSIGN_OR_RETURN(LayerPart part, FactorLayer(job_, input));
  RK_RETURN_IF_ERROR(prefix_->Advance(part, [&](double fraction) {
    return progress(kObserveShare + (1 - kObserveShare) * fraction);
  }));
  return part;
}

absl::Status Factorizer::FactorLayers() {
  // Parts of an earlier run count as done for the pace of this one.
  std::vector<int64_t> missing;
  for (const auto& entry : by_layer_) {
    const bool is_done = ReadPart(work_->PartPath(entry.first)).ok();
    layers_done_ += is_done ? 1 : 0;
    if (!is_done) missing.push_back(entry.first);
  }
  reporter_.SetStart(kLayersShare * static_cast<double>(layers_done_) /
                     static_cast<double>(by_layer_.size()));
  // A search's report needs its plan; what it measured is on file.
  if (missing.empty() && !policy_.needs_model_loss) return absl::OkStatus();
  RK_RETURN_IF_ERROR(PlanAllBudgets());
  return method_.sees_prefix ? FactorTheseBehindPrefix(missing) : FactorThese(missing);
}

absl::Status Factorizer::Write() {
  RemoveStaleStaging(out_);
  FactorizedModel model{.source = checkpoint_.get(), .block_dtype = job_.block_dtype};
  std::vector<FactoredMatrix> fresh;
  int64_t dense = 0, kept = 0, bits = 0;
  for (const auto& entry : by_layer_) {
    model.part_paths.push_back(work_->PartPath(entry.first));
    RK_ASSIGN_OR_RETURN(LayerPart part, ReadPart(model.part_paths.back()));
    std::move(part.matrices.begin(), part.matrices.end(), std::back_inserter(fresh));
    for (LayerReport& r : part.reports) {
      dense += r.dense_parameters;
      kept += r.kept_parameters;
      bits += r.kept_bits;
      report_.layers.push_back(std::move(r));
    }
  }
  model.matrices = Merged(checkpoint_->factored(), std::move(fresh));
  report_.parameters_kept = static_cast<double>(kept) / static_cast<double>(dense);
  report_.bits_per_weight = static_cast<double>(bits) / static_cast<double>(dense);
  RK_ASSIGN_OR_RETURN(const bool is_there, Exists(out_));
  if (!is_there || !HasManifestOf(model.matrices, out_)) {
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
  FactorizeOptions resolved = options;
  if (resolved.allocation.empty()) {
    resolved.allocation = options.rank > 0 ? "uniform" : std::string(method->default_allocation);
  }
  RK_RETURN_IF_ERROR(CheckOptions(resolved, *method));
  RK_ASSIGN_OR_RETURN(const AllocationPolicy* policy, FindAllocationPolicy(resolved.allocation));
  return Factorizer(out, resolved, *method, *policy, progress).Run(model_path);
}

}  // namespace rankine
