#include "tools/compress/statistics_folder.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/compress/record_file.h"

namespace rankine {
namespace {

std::string InfoPath(const std::string& folder) { return folder + "/calibration.record"; }

absl::StatusOr<StatisticsInfo> ReadInfo(const std::string& folder) {
  RK_ASSIGN_OR_RETURN(const Record record, ReadRecord(InfoPath(folder)));
  const auto j = nlohmann::json::parse(record.header, nullptr, /*allow_exceptions=*/false);
  try {
    return StatisticsInfo{.model_digest = j.at("model"),
                          .model_name = j.at("model_name"),
                          .text_digest = j.at("text"),
                          .tokens = j.at("tokens")};
  } catch (const nlohmann::json::exception& e) {
    return absl::DataLossError(absl::StrCat(InfoPath(folder), " has a bad header: ", e.what()));
  }
}

}  // namespace

std::string ModelName(const std::string& path) {
  const std::filesystem::path p = std::filesystem::path(path).lexically_normal();
  return p.has_filename() ? p.filename().string() : p.parent_path().filename().string();
}

absl::StatusOr<StatisticsFolder> StatisticsFolder::Open(const std::string& path) {
  auto info = ReadInfo(path);
  if (absl::IsNotFound(info.status())) {
    return absl::NotFoundError(absl::StrCat(
        path, " holds no statistics: make them by rankine calibrate MODEL --text FILE --out ",
        path));
  }
  RK_RETURN_IF_ERROR(info.status());
  return StatisticsFolder(path, *std::move(info));
}

absl::StatusOr<StatisticsFolder> StatisticsFolder::Create(const std::string& path,
                                                          const StatisticsInfo& info) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot create ", path, ": ", error.message()));
  }
  const auto old = ReadInfo(path);
  if (old.ok()) {
    StatisticsFolder folder(path, *old);
    RK_RETURN_IF_ERROR(folder.CheckModel(info.model_digest, info.model_name));
    if (old->text_digest == info.text_digest) return folder;
    return absl::FailedPreconditionError(absl::StrCat(
        path, " holds statistics of another calibration text; name another folder or delete it"));
  }
  if (absl::IsNotFound(old.status()) && !std::filesystem::is_empty(path, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is a folder of other files; name another one for the statistics"));
  }
  // A damaged record is written anew: the layers' files carry stamps of their own.
  nlohmann::ordered_json header{{"model", info.model_digest},
                                {"model_name", info.model_name},
                                {"text", info.text_digest},
                                {"tokens", info.tokens}};
  RK_RETURN_IF_ERROR(WriteRecord(InfoPath(path), {.header = DumpJson(header)}));
  return StatisticsFolder(path, info);
}

absl::Status StatisticsFolder::CheckModel(const std::string& model_digest,
                                          const std::string& model_name) const {
  if (info_.model_digest == model_digest) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " holds statistics of another model: it was made from ", info_.model_name,
                   " (", info_.model_digest.substr(0, 8), "), not from ", model_name, " (",
                   model_digest.substr(0, 8), ")"));
}

std::string StatisticsFolder::LayerPath(int64_t layer) const {
  return absl::StrFormat("%s/layer_%05d.statistics", path_, layer);
}

absl::StatusOr<LayerStatistics> StatisticsFolder::Read(int64_t layer) const {
  return ReadStatistics(LayerPath(layer), info_.Stamp());
}

absl::Status StatisticsFolder::Write(int64_t layer, const LayerStatistics& statistics) const {
  return WriteStatistics(LayerPath(layer), info_.Stamp(), statistics);
}

}  // namespace rankine
