// Losses that a search has paid for, on disk, so that none is paid for twice: a text file with a
// JSON object a line. The first says of what they are:
//
//   {"format": "rankine-measured-losses", "version": 1, "model": DIGEST, "model_name": NAME,
//    "validation": DIGEST, "windows": 8, "window": 512, "made_by": {"method": "asvd", ..}}
//
// and each of the others is a point, the mean loss of every window (nats per token) with the
// linears in "ranks" replaced, which is empty for the model as it is:
//
//   {"ranks": {"model.layers.0.mlp.up_proj": 96}, "losses": [2.31, 2.07, ..]}
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/search/model_loss.h"

namespace rankine {

// What decides a loss, but for the ranks.
struct MeasuredPointsInfo {
  std::string model_digest;
  std::string model_name;   // for people
  std::string text_digest;  // of the validation windows
  int64_t windows = 0;
  int64_t window = 0;  // tokens of each
  // The method, its options, the encoding and what calibrated it, by name.
  std::vector<std::pair<std::string, std::string>> made_by;
};

// What a file holds, for those who only look at it.
struct MeasuredLosses {
  MeasuredPointsInfo info;
  std::map<Ranks, std::vector<double>> points;  // the losses of every window
};

// The file at `path`, whatever it is of; a last line that is cut off does not count. kNotFound,
// kDataLoss: it is no such file, or a line is damaged.
absl::StatusOr<MeasuredLosses> ReadMeasuredLosses(const std::string& path);

// One run at a time uses a file. Movable.
class MeasuredPoints {
 public:
  // Makes the file, or goes on in it; a last line that was cut off by a kill is dropped.
  // kFailedPrecondition: it is of another model, text or method, and the message names which.
  // kDataLoss: it is no such file, or a line is damaged.
  static absl::StatusOr<MeasuredPoints> Open(const std::string& path,
                                             const MeasuredPointsInfo& info);

  // The windows' losses at these ranks; null when they were not measured.
  const std::vector<double>* Find(const Ranks& ranks) const;
  // Appends it, and returns when it is with the system.
  absl::Status Add(const Ranks& ranks, std::vector<double> losses);

  const std::map<Ranks, std::vector<double>>& points() const { return points_; }

 private:
  explicit MeasuredPoints(std::string path) : path_(std::move(path)) {}
  absl::Status Start(const MeasuredPointsInfo& info);
  absl::Status Read(const std::string& bytes, const MeasuredPointsInfo& info);

  std::string path_;
  std::map<Ranks, std::vector<double>> points_;
};

}  // namespace rankine
