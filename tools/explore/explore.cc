#include "tools/explore/explore.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/allocation/allocation.h"
#include "tools/compress/calibrate.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/methods/method.h"
#include "tools/explore/cache.h"
#include "tools/explore/folder_lock.h"
#include "tools/explore/frontier.h"
#include "tools/explore/model_size.h"
#include "tools/explore/point_maker.h"
#include "tools/explore/report/report.h"
#include "tools/explore/words.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

// Of a point's time: making it, of the two.
constexpr double kMakeShare = 0.6;
// To be raised when figures of the same recipe change.
constexpr char kKeyVersion[] = "rankine explore 2";

// Files that flags name count by what they hold, but for the one that a search adds its losses to:
// they are measured, whatever stands there.
void AddNamedFiles(const std::string& recipe, Fingerprint* digest) {
  const auto words = SplitWords(recipe);
  if (!words.ok()) return;
  for (size_t i = 0; i < words->size(); ++i) {
    std::error_code ignored;
    const std::string& word = (*words)[i];
    if (!fs::is_regular_file(word, ignored) || (i > 0 && (*words)[i - 1] == "--search-file")) {
      continue;
    }
    std::ifstream in(word, std::ios::binary);
    digest->Add(std::string((std::istreambuf_iterator<char>(in)), {}));
  }
}

class Explorer {
 public:
  Explorer(const ExploreOptions& options, const ProgressFn& progress)
      : options_(options), progress_(progress) {}

  absl::StatusOr<Exploration> Run();

 private:
  absl::Status CheckPoints() const;
  absl::Status Prepare();
  absl::Status PrepareStatistics();
  // Of what decides the losses of a point, and of all its figures: losses hold on any machine,
  // speeds on one. The same where speed is not asked for.
  absl::StatusOr<std::string> KeyOf(const PointSpec& spec) const;
  std::string KeyWithSpeed(const std::string& key) const;
  bool WantsSpeed() const { return options_.evaluator.speed.repeat > 0; }
  absl::Status Walk();
  absl::Status Visit(const PointSpec& spec);
  absl::StatusOr<PointResult> MeasurePoint(const PointSpec& spec, const std::string& key) const;
  // What of it no earlier run has measured.
  absl::Status AddFigures(const PointSpec& spec, const std::string& key, const FactoredModel& model,
                          PointResult* result) const;
  void Keep(const PointSpec& spec, PointResult result);
  void Skip(const PointSpec& spec, UnmeasuredPoint::Why why, const std::string& reason);
  absl::Status AddSpectra();
  absl::Status WriteReport();
  // Of the whole, as the share of a point's own work grows; false once time is up.
  ProgressFn Part(double begin, double end, const std::string& what) const;
  bool OutOfTime() const { return options_.out_of_time && options_.out_of_time(); }

  const ExploreOptions& options_;
  const ProgressFn& progress_;
  Exploration result_;

  std::optional<FolderLock> lock_;
  std::unique_ptr<Checkpoint> dense_;
  std::string model_digest_, statistics_path_;
  std::optional<StatisticsFolder> statistics_;
  std::optional<PointCache> cache_;
  std::unique_ptr<Evaluator> evaluator_;
  std::optional<PointMaker> maker_;
  std::vector<PointSpec> measured_specs_;  // beside result_.points
  size_t visited_ = 0;
};

ProgressFn Explorer::Part(double begin, double end, const std::string& what) const {
  const auto all = static_cast<double>(options_.points.size() + 1);
  return [=, this](const Progress& p) {
    if (OutOfTime()) return false;
    if (!progress_) return true;
    const double fraction =
        (static_cast<double>(visited_) + begin + (end - begin) * p.fraction) / all;
    return progress_({.fraction = std::min(fraction, 1.0),
                      .text = absl::StrCat(what, p.text.empty() ? "" : ": ", p.text)});
  };
}

// What no run could do is refused before anything is made.
absl::Status Explorer::CheckPoints() const {
  const bool has_statistics =
      !options_.calibration.files.empty() || !options_.statistics_folder.empty();
  for (const PointSpec& spec : options_.points) {
    if (spec.kind != PointKind::kFactorize) continue;
    RK_ASSIGN_OR_RETURN(const Method* method, FindMethod(spec.factorize.method));
    if (!spec.factorize.allocation.empty()) {  // else the method's own
      RK_RETURN_IF_ERROR(FindAllocationPolicy(spec.factorize.allocation).status());
    }
    const bool has_own =
        !spec.factorize.calibration_files.empty() || !spec.factorize.statistics_folder.empty();
    if (method->needs_calibration && !has_statistics && !has_own) {
      return absl::InvalidArgumentError(absl::StrCat(
          "method ", std::string(method->name),
          " needs a calibration text: give --calibration FILE, or --statistics of rankine "
          "calibrate"));
    }
  }
  if (options_.evaluator.texts.empty()) {
    return absl::InvalidArgumentError("give a text to measure on: --text FILE");
  }
  return absl::OkStatus();
}

absl::Status Explorer::PrepareStatistics() {
  statistics_path_ = options_.statistics_folder;
  if (!options_.calibration.files.empty()) {
    if (statistics_path_.empty()) statistics_path_ = options_.out + "/statistics";
    RK_RETURN_IF_ERROR(Calibrate(options_.model, statistics_path_, options_.calibration,
                                 options_.threads, Part(0, 0, "calibrating"))
                           .status());
  }
  if (statistics_path_.empty()) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(statistics_, StatisticsFolder::Open(statistics_path_));
  RK_RETURN_IF_ERROR(statistics_->CheckModel(model_digest_, ModelName(options_.model)));
  result_.calibration_tokens = statistics_->info().tokens;
  return absl::OkStatus();
}

absl::Status Explorer::Prepare() {
  RK_RETURN_IF_ERROR(CheckPoints());
  RK_ASSIGN_OR_RETURN(dense_, OpenCheckpoint(options_.model));
  RK_ASSIGN_OR_RETURN(model_digest_, ModelFingerprint(*dense_));
  if (!options_.sensitivity_file.empty()) {
    RK_ASSIGN_OR_RETURN(result_.sensitivity,
                        ReadSensitivities(options_.sensitivity_file, *dense_, model_digest_));
  }
  RK_ASSIGN_OR_RETURN(evaluator_, Evaluator::Create(*dense_, options_.evaluator));
  RK_ASSIGN_OR_RETURN(lock_, FolderLock::Take(options_.out));
  RK_ASSIGN_OR_RETURN(cache_, PointCache::Open(options_.out + "/cache"));
  result_.model_name = ModelName(options_.model);
  result_.device = options_.evaluator.device->description();
  result_.compute = options_.compute;
  result_.evaluator = options_.evaluator;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Explorer::KeyOf(const PointSpec& spec) const {
  Fingerprint digest;
  for (const std::string& part :
       {std::string(kKeyVersion), model_digest_, evaluator_->texts_digest(), options_.compute,
        statistics_ ? statistics_->info().Stamp() : "", std::string(spec.recipe)}) {
    digest.Add(part);
  }
  digest.Add(static_cast<int64_t>(spec.kind));
  if (spec.kind == PointKind::kFactorize) AddNamedFiles(spec.recipe, &digest);
  if (spec.kind == PointKind::kBaseline) {
    RK_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> model, OpenCheckpoint(spec.recipe));
    RK_ASSIGN_OR_RETURN(const std::string of_model, ModelFingerprint(*model));
    digest.Add(of_model);
    // Two encodings of one model may hold the same values.
    digest.Add(SizeOfModel(*model).bytes);
  }
  return digest.Hex();
}

std::string Explorer::KeyWithSpeed(const std::string& key) const {
  if (!WantsSpeed()) return key;
  const SpeedOptions& speed = options_.evaluator.speed;
  Fingerprint digest;
  digest.Add(absl::StrCat(key, " ", speed.prompt_tokens, " ", speed.new_tokens, " ", speed.repeat,
                          " ", options_.evaluator.device->description()));
  return digest.Hex();
}

absl::Status Explorer::AddFigures(const PointSpec& spec, const std::string& key,
                                  const FactoredModel& model, PointResult* result) const {
  if (auto known = cache_->Read(key); known.ok()) {
    *result = *std::move(known);
  } else {
    RK_ASSIGN_OR_RETURN(result->texts, evaluator_->Losses(model, Part(kMakeShare, 1, spec.name)));
    RK_RETURN_IF_ERROR(cache_->Write(key, *result));
  }
  if (!WantsSpeed()) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(result->speed, evaluator_->Speed(model));
  return cache_->Write(KeyWithSpeed(key), *result);
}

absl::StatusOr<PointResult> Explorer::MeasurePoint(const PointSpec& spec,
                                                   const std::string& key) const {
  PointResult result;
  const ProgressFn making = Part(0, kMakeShare, spec.name);
  RK_ASSIGN_OR_RETURN(const std::string path, maker_->Make(spec, key, making, &result));
  if (spec.kind == PointKind::kDense) {
    RK_RETURN_IF_ERROR(AddFigures(spec, key, evaluator_->dense(), &result));
  } else {
    RK_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, OpenCheckpoint(path));
    RK_ASSIGN_OR_RETURN(const std::unique_ptr<FactoredModel> model, evaluator_->Load(*checkpoint));
    RK_RETURN_IF_ERROR(AddFigures(spec, key, *model, &result));
  }
  RK_RETURN_IF_ERROR(maker_->CleanUp(spec, key, options_.keep_models));
  return result;
}

void Explorer::Keep(const PointSpec& spec, PointResult result) {
  // Names are not part of the key, and may have changed since.
  result.name = spec.name;
  result.family = spec.family.empty() ? spec.factorize.method : spec.family;
  for (size_t i = 0; i < result.texts.size(); ++i) {
    result.texts[i].text = options_.evaluator.texts[i].name;
  }
  result_.points.push_back(std::move(result));
  measured_specs_.push_back(spec);
}

void Explorer::Skip(const PointSpec& spec, UnmeasuredPoint::Why why, const std::string& reason) {
  result_.unmeasured.push_back(
      {.why = why, .name = spec.name, .recipe = spec.recipe, .reason = reason});
}

absl::Status Explorer::Visit(const PointSpec& spec) {
  RK_ASSIGN_OR_RETURN(const std::string key, KeyOf(spec));
  if (auto known = cache_->Read(KeyWithSpeed(key)); known.ok()) {
    ++result_.reused;
    Keep(spec, *std::move(known));
    return absl::OkStatus();
  }
  const std::string pruned =
      options_.prune ? PruneReason(spec, measured_specs_, result_.points) : "";
  if (!pruned.empty()) {
    Skip(spec, UnmeasuredPoint::Why::kPruned, pruned);
    return absl::OkStatus();
  }
  if (OutOfTime()) {
    auto losses = cache_->Read(key);
    Skip(spec, UnmeasuredPoint::Why::kOutOfTime,
         losses.ok() ? "time was up before its speed" : "time was up before it");
    if (losses.ok()) {
      ++result_.reused;
      Keep(spec, *std::move(losses));
    }
    return absl::OkStatus();
  }
  auto result = MeasurePoint(spec, key);
  if (result.ok()) {
    ++result_.measured;
    Keep(spec, *std::move(result));
    return WriteReport();
  }
  if (absl::IsCancelled(result.status())) {
    if (!OutOfTime()) return result.status();
    Skip(spec, UnmeasuredPoint::Why::kOutOfTime, "time was up while it was made or measured");
    return absl::OkStatus();
  }
  // Nothing can be compared without the dense model.
  if (spec.kind == PointKind::kDense) return result.status();
  Skip(spec, UnmeasuredPoint::Why::kFailed, std::string(result.status().message()));
  return absl::OkStatus();
}

absl::Status Explorer::Walk() {
  maker_.emplace(PointMaker::Options{.dense = dense_.get(),
                                     .dense_path = options_.model,
                                     .models_folder = options_.out + "/models",
                                     .cache = &*cache_,
                                     .calibration = options_.calibration,
                                     .statistics = statistics_,
                                     .statistics_path = statistics_path_,
                                     .threads = options_.threads});
  // Rows of baselines come first: what a factorised model has to beat.
  std::vector<PointSpec> specs = options_.points;
  const auto dense = std::stable_partition(specs.begin(), specs.end(), [](const PointSpec& s) {
    return s.kind == PointKind::kBaseline;
  });
  specs.insert(dense, {.name = "dense", .family = "as it is"});
  for (const PointSpec& spec : specs) {
    RK_RETURN_IF_ERROR(Visit(spec));
    ++visited_;
  }
  std::error_code ignored;
  fs::remove(options_.out + "/models", ignored);  // when nothing is left in it
  return absl::OkStatus();
}

absl::Status Explorer::AddSpectra() {
  if (OutOfTime()) return absl::OkStatus();
  const ProgressFn progress = Part(0, 0, "spectra");
  const ProgressReporter reporter(progress);
  Fingerprint key;
  key.Add(kKeyVersion);
  key.Add(model_digest_);
  key.Add(statistics_ ? statistics_->info().Stamp() : "");
  auto spectra = SpectraOf({.dense = dense_.get(),
                            .statistics = statistics_ ? &*statistics_ : nullptr,
                            .threads = options_.threads,
                            .cache_path = cache_->folder() + "/spectra.json",
                            .key = key.Hex(),
                            .progress = [&](double f) { return reporter.Report(f, ""); }});
  if (absl::IsCancelled(spectra.status()) && OutOfTime()) return absl::OkStatus();
  if (!spectra.ok()) return spectra.status();
  result_.spectra = *std::move(spectra);
  return absl::OkStatus();
}

absl::Status Explorer::WriteReport() {
  result_.on_size_frontier = SizeFrontier(result_.points);
  result_.on_speed_frontier = SpeedFrontier(result_.points);
  return WriteReportFiles(result_, options_.out);
}

absl::StatusOr<Exploration> Explorer::Run() {
  RK_RETURN_IF_ERROR(Prepare());
  const absl::Status statistics = PrepareStatistics();
  const bool has_time = !(absl::IsCancelled(statistics) && OutOfTime());
  if (has_time) {
    RK_RETURN_IF_ERROR(statistics);
    RK_RETURN_IF_ERROR(Walk());
    RK_RETURN_IF_ERROR(AddSpectra());
  } else {
    for (const PointSpec& spec : options_.points) {
      Skip(spec, UnmeasuredPoint::Why::kOutOfTime, "time was up while calibrating");
    }
  }
  result_.is_complete =
      has_time && !result_.spectra.empty() &&
      std::none_of(result_.unmeasured.begin(), result_.unmeasured.end(),
                   [](const auto& point) { return point.why == UnmeasuredPoint::Why::kOutOfTime; });
  RK_RETURN_IF_ERROR(WriteReport());
  return std::move(result_);
}

}  // namespace

std::string_view WhyName(UnmeasuredPoint::Why why) {
  switch (why) {
    case UnmeasuredPoint::Why::kPruned:
      return "pruned";
    case UnmeasuredPoint::Why::kFailed:
      return "failed";
    case UnmeasuredPoint::Why::kOutOfTime:
      return "out of time";
  }
  return "";
}

absl::StatusOr<Exploration> Explore(const ExploreOptions& options, const ProgressFn& progress) {
  return Explorer(options, progress).Run();
}

}  // namespace rankine
