// Statistics on disk: a folder with one file for each layer (statistics.h), so that neither making
// nor using them needs more than a layer in memory and an interrupted run goes on; and
// calibration.record, which says what they are of.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/statistics.h"

namespace rankine {

struct StatisticsInfo {
  std::string model_digest;
  std::string model_name;   // the last part of its path, for people
  std::string text_digest;  // of the calibration tokens
  int64_t tokens = 0;

  // What the layers' files are stamped with.
  std::string Stamp() const { return model_digest + "-" + text_digest; }
};

class StatisticsFolder {
 public:
  // Of statistics that exist. kNotFound: no such folder, or not one of statistics; kDataLoss:
  // damaged. Both name it.
  static absl::StatusOr<StatisticsFolder> Open(const std::string& path);
  // Makes it, or goes on in one of the same model and text. kFailedPrecondition: it is of another
  // model or text, which the message names.
  static absl::StatusOr<StatisticsFolder> Create(const std::string& path,
                                                 const StatisticsInfo& info);

  const StatisticsInfo& info() const { return info_; }
  // kFailedPrecondition names both models when it is not of this one.
  absl::Status CheckModel(const std::string& model_digest, const std::string& model_name) const;

  // kNotFound, kDataLoss, kFailedPrecondition as ReadStatistics.
  absl::StatusOr<LayerStatistics> Read(int64_t layer) const;
  absl::Status Write(int64_t layer, const LayerStatistics& statistics) const;

 private:
  StatisticsFolder(std::string path, StatisticsInfo info)
      : path_(std::move(path)), info_(std::move(info)) {}
  std::string LayerPath(int64_t layer) const;

  std::string path_;
  StatisticsInfo info_;
};

// The last part of a model's path.
std::string ModelName(const std::string& path);

}  // namespace rankine
