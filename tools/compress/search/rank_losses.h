// The model's loss on a validation text as a function of ranks: what allocation policies that look
// at the model are given (LossOfRanks). What was measured once is read from its file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/search/measured_points.h"
#include "tools/compress/search/slice_bank.h"
#include "tools/compress/search/validation_loss.h"

namespace rankine {

// Loads the model when the first point is not on file. One thread.
class RankLosses {
 public:
  struct Args {
    const Checkpoint* checkpoint = nullptr;     // outlives the object
    std::vector<std::vector<int32_t>> windows;  // of the validation text
    MeasuredPoints points;
    SliceBank bank;
    int threads = 0;
    // Called while it works, with the number of points measured so far; an error ends it.
    std::function<absl::Status(int64_t measured)> progress;
  };
  explicit RankLosses(Args args) : args_(std::move(args)) {}

  // Errors: those of factoring, loading and running the model; kDataLoss where logits are not
  // finite.
  absl::StatusOr<MeasuredLoss> Measure(const Ranks& ranks);

  // What was measured or read so far, the model as it is (no ranks) among it.
  const std::map<Ranks, std::vector<double>>& points() const { return args_.points.points(); }
  int64_t measured() const { return static_cast<int64_t>(points().size()); }

 private:
  absl::StatusOr<std::vector<double>> LossesOf(const Ranks& ranks);
  absl::StatusOr<std::vector<double>> Compute(const Ranks& ranks);
  absl::Status Progress() const {
    return args_.progress ? args_.progress(measured()) : absl::OkStatus();
  }

  Args args_;
  std::unique_ptr<ValidationLoss> loss_;
};

// Of paired windows: `now` against `before`.
MeasuredLoss CompareLosses(const std::vector<double>& before, const std::vector<double>& now);

}  // namespace rankine
