#include "tools/explore/point_json.h"

#include <array>
#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kKindNames = {"dense", "baseline", "encode", "factorize"};

Json Optional(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

std::optional<double> ToOptional(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return json.get<double>();
}

Json EstimateJson(const Estimate& e) {
  return {{"value", e.value}, {"standard_error", Optional(e.standard_error)}};
}

Estimate ToEstimate(const Json& json) {
  return {.value = json.at("value").get<double>(),
          .standard_error = ToOptional(json.at("standard_error"))};
}

Json IntervalJson(const Interval& i) {
  return {{"median", i.median}, {"low", i.low}, {"high", i.high}};
}

Interval ToInterval(const Json& json) {
  return {json.at("median").get<double>(), json.at("low").get<double>(),
          json.at("high").get<double>()};
}

Json TextJson(const TextResult& t) {
  return {{"text", t.text},
          {"perplexity", EstimateJson(t.perplexity)},
          {"log_perplexity_difference", EstimateJson(t.log_difference)},
          {"kl", EstimateJson(t.kl)},
          {"kl_p99", EstimateJson(t.kl_p99)},
          {"top1_agreement", EstimateJson(t.top1)},
          {"tokens", t.tokens},
          {"windows", t.windows}};
}

TextResult ToText(const Json& json) {
  return {.text = json.at("text").get<std::string>(),
          .perplexity = ToEstimate(json.at("perplexity")),
          .log_difference = ToEstimate(json.at("log_perplexity_difference")),
          .kl = ToEstimate(json.at("kl")),
          .kl_p99 = ToEstimate(json.at("kl_p99")),
          .top1 = ToEstimate(json.at("top1_agreement")),
          .tokens = json.at("tokens").get<int64_t>(),
          .windows = json.at("windows").get<int64_t>()};
}

Json SpeedJson(const SpeedResult& s) {
  return {{"prefill_tokens_per_second", s.prefill_tokens_per_second},
          {"decode_tokens_per_second", s.decode_tokens_per_second},
          {"prefill_ratio", IntervalJson(s.prefill_ratio)},
          {"decode_ratio", IntervalJson(s.decode_ratio)},
          {"weight_bytes_per_token", s.weight_bytes_per_token}};
}

SpeedResult ToSpeed(const Json& json) {
  return {.prefill_tokens_per_second = json.at("prefill_tokens_per_second").get<double>(),
          .decode_tokens_per_second = json.at("decode_tokens_per_second").get<double>(),
          .prefill_ratio = ToInterval(json.at("prefill_ratio")),
          .decode_ratio = ToInterval(json.at("decode_ratio")),
          .weight_bytes_per_token = json.at("weight_bytes_per_token").get<int64_t>()};
}

PointKind ToKind(const std::string& name) {
  for (size_t i = 0; i < kKindNames.size(); ++i) {
    if (name == kKindNames[i]) return static_cast<PointKind>(i);
  }
  throw std::out_of_range("unknown kind " + name);
}

PointResult ToPoint(const Json& json) {
  PointResult p{.kind = ToKind(json.at("kind").get<std::string>()),
                .name = json.at("name").get<std::string>(),
                .recipe = json.at("recipe").get<std::string>(),
                .family = json.at("family").get<std::string>(),
                .size = {.linear_weights = json.at("linear_weights").get<int64_t>(),
                         .linear_bytes = json.at("linear_bytes").get<int64_t>(),
                         .bytes = json.at("bytes").get<int64_t>()},
                .parameters_kept = json.at("parameters_kept").get<double>(),
                .make_seconds = ToOptional(json.at("make_seconds"))};
  for (const Json& text : json.at("texts")) p.texts.push_back(ToText(text));
  if (!json.at("speed").is_null()) p.speed = ToSpeed(json.at("speed"));
  for (const Json& linear : json.at("linears")) {
    p.linears.push_back({.name = linear.at("name").get<std::string>(),
                         .rank = linear.at("rank").get<int64_t>(),
                         .relative_error = linear.at("relative_error").get<double>(),
                         .weighted_error = ToOptional(linear.at("weighted_error"))});
  }
  return p;
}

}  // namespace

std::string_view KindName(PointKind kind) { return kKindNames[static_cast<size_t>(kind)]; }

Json PointToJson(const PointResult& p) {
  Json json = {{"name", p.name},
               {"kind", KindName(p.kind)},
               {"family", p.family},
               {"recipe", p.recipe},
               {"linear_weights", p.size.linear_weights},
               {"linear_bytes", p.size.linear_bytes},
               {"bytes", p.size.bytes},
               {"bits_per_weight", p.size.bits_per_weight()},
               {"parameters_kept", p.parameters_kept},
               {"mean_relative_error", Optional(p.MeanRelativeError())},
               {"mean_weighted_error", Optional(p.MeanWeightedError())},
               {"make_seconds", Optional(p.make_seconds)},
               {"texts", Json::array()},
               {"speed", p.speed ? SpeedJson(*p.speed) : Json(nullptr)},
               {"linears", Json::array()}};
  for (const TextResult& text : p.texts) json["texts"].push_back(TextJson(text));
  for (const LinearError& l : p.linears) {
    json["linears"].push_back({{"name", l.name},
                               {"rank", l.rank},
                               {"relative_error", l.relative_error},
                               {"weighted_error", Optional(l.weighted_error)}});
  }
  return json;
}

absl::StatusOr<PointResult> PointFromJson(const Json& json) {
  try {
    return ToPoint(json);
  } catch (const std::exception& e) {  // what the library throws for other types and missing keys
    return absl::DataLossError(absl::StrCat("no point: ", e.what()));
  }
}

}  // namespace rankine
