// Walks a design space: makes each point, measures it, and keeps what it measured
// (docs/explore.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/progress.h"
#include "tools/explore/evaluator.h"
#include "tools/explore/point.h"
#include "tools/explore/sensitivity.h"
#include "tools/explore/spectra.h"

namespace rankine {

struct ExploreOptions {
  std::string model;  // the dense one
  std::string out;    // the folder that holds everything; the same again goes on in it
  std::vector<PointSpec> points;
  EvaluatorOptions evaluator;
  std::string compute;  // what of evaluator.load decides figures, in words

  // Statistics for all points: of a text, which leaves them in `out`, or a folder that has them.
  CalibrationOptions calibration;
  std::string statistics_folder;
  std::string sensitivity_file;  // sensitivity.h; empty = none

  bool prune = true;
  bool keep_models = false;  // in `out`/models; else each is deleted once it is measured
  // Asked often; true ends the walk, at the latest within a layer or a window. Null: never.
  std::function<bool()> out_of_time;
  int threads = 0;  // 0 = the cores this process may run on
};

struct UnmeasuredPoint {
  enum class Why : uint8_t { kPruned, kFailed, kOutOfTime };
  Why why = Why::kPruned;
  std::string name, recipe, reason;
};

std::string_view WhyName(UnmeasuredPoint::Why why);  // "pruned", "failed", "out of time"

struct Exploration {
  // For people.
  std::string model_name, device, compute;
  EvaluatorOptions evaluator;
  int64_t calibration_tokens = 0;  // 0 = no statistics

  std::vector<PointResult> points;  // baselines, dense, then in the order of the plan
  std::vector<bool> on_size_frontier, on_speed_frontier;
  std::vector<UnmeasuredPoint> unmeasured;
  std::vector<Spectrum> spectra;         // empty when time was up before
  std::vector<Sensitivity> sensitivity;  // empty without a file
  bool is_complete = false;              // false: time was up
  int measured = 0, reused = 0;          // points with a figure of this run, of earlier ones only
};

// Measures what earlier runs in `out` have not, then writes explore.html, points.csv and
// explore.json there, also when time was up, and whenever a point is finished. A point that cannot
// be made is reported as failed and does not end the walk.
// kInvalidArgument: bad texts, options of factorize that do not go together. kFailedPrecondition:
// statistics of another model, or another run is at work in `out`.
absl::StatusOr<Exploration> Explore(const ExploreOptions& options, const ProgressFn& progress = {});

}  // namespace rankine
