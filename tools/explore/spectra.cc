#include "tools/explore/spectra.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <numeric>
#include <optional>
#include <utility>

#include "models/status_macros.h"
#include "tools/compress/slice_losses.h"
#include "tools/explore/json_file.h"
#include "tools/explore/layer_walk.h"
#include "tools/explore/spectra_json.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

// Enough for a smooth line on a logarithmic axis.
constexpr int kSamples = 40;

Spectrum Sample(const std::string& linear, const std::vector<double>& losses) {
  const auto count = static_cast<int64_t>(losses.size());
  Spectrum spectrum{.linear = linear, .largest_rank = count};
  const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
  for (int i = 0; i < kSamples; ++i) {
    // Evenly spaced in log(1 + k).
    const double at = std::expm1(std::log(static_cast<double>(count)) * i / (kSamples - 1));
    const int64_t k = std::min(count - 1, static_cast<int64_t>(std::lround(at)));
    if (!spectrum.index.empty() && k <= spectrum.index.back()) continue;
    spectrum.index.push_back(k);
    spectrum.share.push_back(sum > 0 ? losses[k] / sum : 0);
  }
  double left = sum;
  while (spectrum.rank_99 < count && left > 0.01 * sum) left -= losses[spectrum.rank_99++];
  return spectrum;
}

// Absent where the file does not hold them.
std::optional<std::vector<Spectrum>> ReadCached(const SpectraArgs& args) {
  const auto json = ReadKeyedJson(args.cache_path, args.key);
  if (!json.ok()) return std::nullopt;
  std::vector<Spectrum> spectra;
  try {
    for (const Json& s : *json) {
      spectra.push_back({.linear = s.at("linear").get<std::string>(),
                         .largest_rank = s.at("largest_rank").get<int64_t>(),
                         .index = s.at("index").get<std::vector<int64_t>>(),
                         .share = s.at("share").get<std::vector<double>>(),
                         .rank_99 = s.at("rank_99").get<int64_t>()});
    }
  } catch (const std::exception&) {  // what the library throws for other types
    return std::nullopt;
  }
  return spectra;
}

}  // namespace

Json SpectraJson(const std::vector<Spectrum>& spectra) {
  Json json = Json::array();
  for (const Spectrum& s : spectra) {
    json.push_back({{"linear", s.linear},
                    {"largest_rank", s.largest_rank},
                    {"rank_99", s.rank_99},
                    {"index", s.index},
                    {"share", s.share}});
  }
  return json;
}

absl::StatusOr<std::vector<Spectrum>> SpectraOf(const SpectraArgs& args) {
  if (auto cached = ReadCached(args)) return *std::move(cached);
  RK_ASSIGN_OR_RETURN(const Method* method,
                      FindMethod(args.statistics != nullptr ? "svd-llm" : "svd"));
  const FactorJob job{.checkpoint = args.dense, .method = method, .threads = args.threads};
  std::vector<Spectrum> spectra;
  RK_RETURN_IF_ERROR(WalkLayers(
      {.dense = args.dense, .statistics = args.statistics, .progress = args.progress},
      [&](const std::vector<const LinearInfo*>& linears, const LayerStatistics* statistics) {
        RK_ASSIGN_OR_RETURN(const auto losses,
                            SliceLossesOf(job, {.linears = linears, .statistics = statistics}));
        for (size_t i = 0; i < linears.size(); ++i) {
          spectra.push_back(Sample(linears[i]->name, losses[i]));
        }
        return absl::OkStatus();
      }));
  RK_RETURN_IF_ERROR(WriteKeyedJson(args.cache_path, args.key, SpectraJson(spectra)));
  return spectra;
}

}  // namespace rankine
