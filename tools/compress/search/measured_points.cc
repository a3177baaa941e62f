#include "tools/compress/search/measured_points.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "models/files/json_text.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"
#include "nlohmann/json.hpp"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "rankine-measured-losses";
constexpr int kVersion = 1;

Json ToJson(const MeasuredPointsInfo& info) {
  Json made_by = Json::object();
  for (const auto& [name, value] : info.made_by) made_by[name] = value;
  return {{"format", kFormat},
          {"version", kVersion},
          {"model", info.model_digest},
          {"model_name", info.model_name},
          {"validation", info.text_digest},
          {"windows", info.windows},
          {"window", info.window},
          {"made_by", made_by}};
}

absl::Status Damaged(const std::string& path, int64_t line) {
  return absl::DataLossError(
      absl::StrCat(path, ", line ", line, " is damaged; delete the file to have it made again"));
}

absl::Status NoSuchFile(const std::string& path) {
  return absl::DataLossError(
      absl::StrCat(path, " is no file of measured losses; name another one"));
}

absl::Status CheckFormat(const std::string& path, const Json& header) {
  const bool is_known =
      header.value("format", "") == kFormat && header.value("version", 0) == kVersion;
  return is_known ? absl::OkStatus() : NoSuchFile(path);
}

MeasuredPointsInfo FromJson(const Json& header) {
  MeasuredPointsInfo info{.model_digest = header.at("model").get<std::string>(),
                          .model_name = header.at("model_name").get<std::string>(),
                          .text_digest = header.at("validation").get<std::string>(),
                          .windows = header.at("windows").get<int64_t>(),
                          .window = header.at("window").get<int64_t>()};
  for (const auto& [name, value] : header.at("made_by").items()) {
    info.made_by.emplace_back(name, value.get<std::string>());
  }
  return info;
}

// Whether the losses of a file with this header are those of `info`.
absl::Status Compare(const std::string& path, const Json& header, const MeasuredPointsInfo& info) {
  const Json own = ToJson(info);
  RK_RETURN_IF_ERROR(CheckFormat(path, header));
  const auto other = [&](const std::string& what) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " holds losses ", what, "; name another file or delete it"));
  };
  if (header.value("model", "") != info.model_digest) {
    return other(absl::StrCat("of another model: it was made from ",
                              header.value("model_name", "?"), ", not from ", info.model_name));
  }
  for (const char* key : {"validation", "windows", "window"}) {
    if (!header.contains(key) || header.at(key) != own.at(key)) {
      return other("on another validation text");
    }
  }
  const Json made_by = header.value("made_by", Json::object());
  for (const auto& [name, value] : own.at("made_by").items()) {
    const std::string there = made_by.value(name, "");
    if (there != value) {
      return other(absl::StrCat("of other factors: ", name, " was '", there, "', not '",
                                value.get<std::string>(), "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadPoint(const std::string& path, const std::string& line, int64_t number,
                       int64_t windows, std::map<Ranks, std::vector<double>>* points) {
  try {
    const Json point = Json::parse(line);
    auto losses = point.at("losses").get<std::vector<double>>();
    if (static_cast<int64_t>(losses.size()) != windows) return Damaged(path, number);
    (*points)[point.at("ranks").get<Ranks>()] = std::move(losses);
  } catch (const nlohmann::json::exception&) {
    return Damaged(path, number);
  }
  return absl::OkStatus();
}

// `bytes` is whole lines. `take_header` is given the first and returns how many windows' losses a
// point has; it may throw what the library does.
absl::Status ReadLines(const std::string& path, const std::string& bytes,
                       const std::function<absl::StatusOr<int64_t>(const Json&)>& take_header,
                       std::map<Ranks, std::vector<double>>* points) {
  int64_t windows = 0;
  size_t begin = 0;
  for (int64_t number = 1; begin < bytes.size(); ++number) {
    const size_t end = bytes.find('\n', begin);
    const std::string line = bytes.substr(begin, end - begin);
    begin = end + 1;
    if (number > 1) {
      RK_RETURN_IF_ERROR(ReadPoint(path, line, number, windows, points));
      continue;
    }
    const Json header = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) return NoSuchFile(path);
    try {
      RK_ASSIGN_OR_RETURN(windows, take_header(header));
    } catch (const nlohmann::json::exception&) {
      return Damaged(path, number);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MeasuredLosses> ReadMeasuredLosses(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::string bytes, ReadTextFile(path));
  const size_t whole = bytes.rfind('\n');
  if (whole == std::string::npos) return NoSuchFile(path);
  MeasuredLosses losses;
  RK_RETURN_IF_ERROR(ReadLines(
      path, bytes.substr(0, whole + 1),
      [&](const Json& header) -> absl::StatusOr<int64_t> {
        RK_RETURN_IF_ERROR(CheckFormat(path, header));
        losses.info = FromJson(header);
        return losses.info.windows;
      },
      &losses.points));
  return losses;
}

absl::StatusOr<MeasuredPoints> MeasuredPoints::Open(const std::string& path,
                                                    const MeasuredPointsInfo& info) {
  MeasuredPoints points(path);
  std::ifstream in(path, std::ios::binary);
  std::string bytes;
  if (in) bytes.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  const size_t whole = bytes.rfind('\n');
  if (whole == std::string::npos) {
    // Nothing but this header, cut off, may be replaced.
    if (DumpJson(ToJson(info)).compare(0, bytes.size(), bytes) != 0) {
      return NoSuchFile(path);
    }
    RK_RETURN_IF_ERROR(points.Start(info));
    return points;
  }
  RK_RETURN_IF_ERROR(points.Read(bytes.substr(0, whole + 1), info));
  if (whole + 1 < bytes.size()) {
    std::error_code error;
    std::filesystem::resize_file(path, whole + 1, error);
    if (error) return absl::InternalError(absl::StrCat(path, ": ", error.message()));
  }
  return points;
}

absl::Status MeasuredPoints::Start(const MeasuredPointsInfo& info) {
  std::ofstream out(path_, std::ios::binary | std::ios::trunc);
  out << DumpJson(ToJson(info)) << '\n' << std::flush;
  if (out) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", path_));
}

absl::Status MeasuredPoints::Read(const std::string& bytes, const MeasuredPointsInfo& info) {
  return ReadLines(
      path_, bytes,
      [&](const Json& header) -> absl::StatusOr<int64_t> {
        RK_RETURN_IF_ERROR(Compare(path_, header, info));
        return info.windows;
      },
      &points_);
}

const std::vector<double>* MeasuredPoints::Find(const Ranks& ranks) const {
  const auto found = points_.find(ranks);
  return found == points_.end() ? nullptr : &found->second;
}

absl::Status MeasuredPoints::Add(const Ranks& ranks, std::vector<double> losses) {
  Json names = Json::object();
  for (const auto& [name, rank] : ranks) names[name] = rank;
  std::ofstream out(path_, std::ios::binary | std::ios::app);
  out << DumpJson({{"ranks", names}, {"losses", losses}}) << '\n' << std::flush;
  if (!out) return absl::InternalError(absl::StrCat("cannot write ", path_));
  points_[ranks] = std::move(losses);
  return absl::OkStatus();
}

}  // namespace rankine
