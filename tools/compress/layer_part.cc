// A record file: JSON header {reports, matrices: the text of a manifest, tensors: [{name, dtype,
// shape, bytes}]}, then the bytes of the tensors.
#include "tools/compress/layer_part.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/manifest.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/compress/record_file.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

Json ReportToJson(const LayerReport& r) {
  Json j{{"name", r.name},
         {"rank", r.rank},
         {"relative_error", r.relative_error},
         {"dense_parameters", r.dense_parameters},
         {"kept_parameters", r.kept_parameters},
         {"kept_bits", r.kept_bits}};
  if (r.weighted_error) j["weighted_error"] = *r.weighted_error;
  return j;
}

LayerReport ReportFromJson(const Json& j) {
  LayerReport r{.name = j.at("name"),
                .rank = j.at("rank"),
                .relative_error = j.at("relative_error"),
                .dense_parameters = j.at("dense_parameters"),
                .kept_parameters = j.at("kept_parameters"),
                .kept_bits = j.at("kept_bits")};
  if (j.contains("weighted_error")) r.weighted_error = j.at("weighted_error").get<double>();
  return r;
}

absl::StatusOr<LayerPart> Parse(const std::string& path, const Json& header,
                                const std::string& payload) {
  LayerPart part;
  for (const Json& j : header.at("reports")) part.reports.push_back(ReportFromJson(j));
  RK_ASSIGN_OR_RETURN(part.matrices, ParseManifest(header.at("matrices"), path));
  size_t offset = 0;
  for (const Json& j : header.at("tensors")) {
    const size_t bytes = j.at("bytes");
    if (bytes > payload.size() - offset) {
      return absl::DataLossError(absl::StrCat(path, " is shorter than its header says"));
    }
    part.tensors.push_back({.name = j.at("name"),
                            .dtype = static_cast<DType>(j.at("dtype").get<int>()),
                            .shape = j.at("shape"),
                            .bytes = payload.substr(offset, bytes)});
    offset += bytes;
  }
  return part;
}

}  // namespace

absl::Status WritePart(const std::string& path, const LayerPart& part) {
  Json header{{"reports", Json::array()},
              {"matrices", SerializeManifest(part.matrices)},
              {"tensors", Json::array()}};
  for (const LayerReport& r : part.reports) header["reports"].push_back(ReportToJson(r));
  Record record;
  for (const StoredTensor& t : part.tensors) {
    header["tensors"].push_back({{"name", t.name},
                                 {"dtype", static_cast<int>(t.dtype)},
                                 {"shape", t.shape},
                                 {"bytes", t.bytes.size()}});
    record.payload += t.bytes;
  }
  record.header = DumpJson(header);
  return WriteRecord(path, record);
}

absl::StatusOr<LayerPart> ReadPart(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const Record record, ReadRecord(path));
  try {
    return Parse(path, Json::parse(record.header), record.payload);
  } catch (const nlohmann::json::exception& e) {
    return absl::DataLossError(absl::StrCat(path, " has a bad header: ", e.what()));
  }
}

}  // namespace rankine
