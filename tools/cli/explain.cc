#include "tools/cli/explain.h"

#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/measure/bench.h"
#include "tools/measure/group_timer.h"
#include "tools/measure/profile.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

// Bytes that the linears would take as dense matrices of the same dtype.
int64_t DenseBytes(const LinearGroup& group) {
  int64_t total = 0;
  for (const FactoredMatrix& m : group.matrices()) {
    total += m.out_features * m.in_features * static_cast<int64_t>(SizeOf(group.weight_dtype()));
  }
  return total;
}

std::string StepName(StepKind kind) {
  switch (kind) {
    case StepKind::kProducts:
      return "products";
    case StepKind::kConvert:
      return "convert";
    case StepKind::kHadamard:
      return "hadamard";
    case StepKind::kPermute:
      return "permute";
    case StepKind::kAdd:
      return "add";
  }
  return "";
}

Json CandidateJson(const Candidate& c) {
  return {{"expression", c.order.expression},
          {"weight_bytes", c.weight_bytes},
          {"multiply_adds_per_token", c.order.multiply_adds_per_token()},
          {"products", c.order.num_products()},
          {"steps", c.num_steps},
          {"decode_microseconds", c.decode_microseconds},
          {"rejected", c.rejected}};
}

// Seconds at each of kTokenBuckets; empty where nothing is measured.
using Measured = std::vector<double>;

Json GroupJson(const LinearGroup& group, const DeviceProfile& profile, const Measured& measured) {
  Json json = {{"name", group.name()},
               {"matrices", Json::array()},
               {"steps", Json::array()},
               {"weight_bytes", group.plan().weight_bytes()},
               {"dense_bytes", DenseBytes(group)},
               {"resident_bytes", group.weight_bytes()},
               {"workspace_bytes_per_token", group.plan().workspace_bytes(1)},
               {"buckets", Json::array()}};
  for (size_t i = 0; i < group.matrices().size(); ++i) {
    Json matrix = {{"name", group.matrices()[i].name},
                   {"plan", group.plan().expressions[i]},
                   {"candidates", Json::array()}};
    const std::vector<TermChoice>& terms = group.choices()[i].terms;
    for (size_t t = 0; t < terms.size(); ++t) {
      for (const Candidate& c : terms[t].candidates) {
        matrix["candidates"].push_back(CandidateJson(c));
        matrix["candidates"].back()["term"] = t;
      }
    }
    json["matrices"].push_back(std::move(matrix));
  }
  for (const PlanStep& step : group.plan().steps) {
    Json products = Json::array();
    for (const PlanProduct& p : step.products) {
      products.push_back({{"n", p.n},
                          {"k", p.k},
                          {"rows", p.rows},
                          {"compute", Name(p.compute)},
                          {"weight_bytes", p.weight_bytes}});
    }
    json["steps"].push_back({{"kind", StepName(step.kind)}, {"products", std::move(products)}});
  }
  for (const int64_t tokens : kTokenBuckets) {
    const ContractionPlan& plan = group.plan_of(tokens);
    const PlanPrediction p = plan.Predict(tokens, profile);
    json["buckets"].push_back({{"tokens", tokens},
                               {"plans", plan.expressions},
                               {"bytes", p.bytes},
                               {"flops", p.flops},
                               {"microseconds", p.microseconds}});
    const size_t bucket = json["buckets"].size() - 1;
    if (!measured.empty()) json["buckets"].back()["measured_microseconds"] = measured[bucket] * 1e6;
  }
  return json;
}

// Orders that can't run because of their shape are many and alike: they are counted.
std::string TermText(const TermChoice& term) {
  std::string out;
  int impossible = 0;
  for (const Candidate& c : term.candidates) {
    if (c.lowering.steps.empty()) {
      ++impossible;
      continue;
    }
    absl::StrAppendFormat(&out, "    %-16s %11s %8.1f us at 1 token  %s\n", c.order.expression,
                          FormatBytes(static_cast<double>(c.weight_bytes)), c.decode_microseconds,
                          &c == &term.choice() ? "chosen"
                          : c.rejected.empty() ? "slower"
                                               : c.rejected);
  }
  if (impossible > 0)
    absl::StrAppendFormat(&out, "    and %d orders that no products execute\n", impossible);
  return out;
}

std::string StepText(const PlanStep& step) {
  if (step.kind != StepKind::kProducts) {
    return absl::StrFormat("%s of %d%s", StepName(step.kind), step.elementwise.columns,
                           step.elementwise.quantized >= 0 ? ", quantised" : "");
  }
  std::vector<std::string> shapes;
  for (const PlanProduct& p : step.products) {
    shapes.push_back(p.rows == 1 ? absl::StrFormat("[%d, %d]", p.n, p.k)
                                 : absl::StrFormat("%d x [%d, %d]", p.rows, p.n, p.k));
  }
  return absl::StrJoin(shapes, " ");
}

std::string GroupText(const LinearGroup& group, const DeviceProfile& profile,
                      const Measured& measured) {
  std::string out;
  for (size_t i = 0; i < group.matrices().size(); ++i) {
    absl::StrAppendFormat(&out, "%s%s: %s\n", i == 0 ? "" : "+ ", group.matrices()[i].name,
                          group.plan().expressions[i]);
    for (const TermChoice& term : group.choices()[i].terms) out += TermText(term);
  }
  for (size_t s = 0; s < group.plan().steps.size(); ++s) {
    absl::StrAppendFormat(&out, "  step %d: %s\n", s + 1, StepText(group.plan().steps[s]));
  }
  absl::StrAppendFormat(&out, "  resident %s (dense would be %s)\n  %6s %12s %12s %10s%s\n",
                        FormatBytes(static_cast<double>(group.weight_bytes())),
                        FormatBytes(static_cast<double>(DenseBytes(group))), "tokens", "bytes",
                        "Mflop", "us", measured.empty() ? "" : "   measured");
  size_t bucket = 0;
  for (const int64_t tokens : kTokenBuckets) {
    const ContractionPlan& plan = group.plan_of(tokens);
    const PlanPrediction p = plan.Predict(tokens, profile);
    absl::StrAppendFormat(&out, "  %6d %12d %12.3f %10.1f", tokens, p.bytes,
                          static_cast<double>(p.flops) * 1e-6, p.microseconds);
    if (!measured.empty()) absl::StrAppendFormat(&out, " %10.1f", measured[bucket++] * 1e6);
    if (group.num_plans() > 1)
      absl::StrAppendFormat(&out, "  %s", absl::StrJoin(plan.expressions, ", "));
    out += "\n";
  }
  return out;
}

// What two groups have in common when they run alike: everything but names.
std::string PlanText(const LinearGroup& group, const DeviceProfile& profile) {
  Json json = GroupJson(group, profile, {});
  json.erase("name");
  for (Json& matrix : json["matrices"]) matrix.erase("name");
  return DumpJson(json);
}

// Measures each plan once: a model's layers mostly share a few.
class PlanTimer {
 public:
  PlanTimer(Device& device, const DeviceProfile& profile) : device_(device), profile_(profile) {}

  absl::StatusOr<Measured> Measure(const LinearGroup& group) {
    const auto [known, is_new] = measured_.try_emplace(PlanText(group, profile_));
    if (!is_new) return known->second;
    for (const int64_t tokens : kTokenBuckets) {
      RK_ASSIGN_OR_RETURN(const double seconds, MeasureGroup(device_, group, tokens));
      known->second.push_back(seconds);
    }
    return known->second;
  }

 private:
  Device& device_;
  const DeviceProfile& profile_;
  absl::flat_hash_map<std::string, Measured> measured_;
};

std::string ProfileText(const Device& device, const DeviceProfile& profile) {
  return absl::StrFormat(
      "%s; profile: %.1f GB/s (L3 %.1f, L2 %.1f), GFLOP/s %.0f f32, %.0f bf16, %.0f int8, %.1f us "
      "a step\n\n",
      device.description(), profile.read_bytes_per_second * 1e-9,
      profile.l3_bytes_per_second * 1e-9, profile.l2_bytes_per_second * 1e-9,
      profile.f32_flops_per_second * 1e-9, profile.bf16_flops_per_second * 1e-9,
      profile.int8_flops_per_second * 1e-9, profile.step_seconds * 1e6);
}

Json ProfileJson(const DeviceProfile& profile) {
  return {{"read_bytes_per_second", profile.read_bytes_per_second},
          {"f32_flops_per_second", profile.f32_flops_per_second},
          {"bf16_flops_per_second", profile.bf16_flops_per_second},
          {"int8_flops_per_second", profile.int8_flops_per_second},
          {"few_int8_flops_per_second", profile.few_int8_flops_per_second},
          {"l3_bytes_per_second", profile.l3_bytes_per_second},
          {"l2_bytes_per_second", profile.l2_bytes_per_second},
          {"step_seconds", profile.step_seconds}};
}

std::string MemoryText(const FactoredModel& model, int64_t dense, int64_t resident) {
  return absl::StrFormat(
      "weights in memory %s, read per token %s; the same linears dense: %s\n"
      "resident set grew by %s while loading%s\n",
      FormatBytes(static_cast<double>(model.weight_bytes())),
      FormatBytes(static_cast<double>(model.weight_bytes_per_token())),
      FormatBytes(static_cast<double>(dense)), FormatBytes(static_cast<double>(resident)),
      resident < dense ? ": less than the dense matrices alone, so no dense copy exists" : "");
}

}  // namespace

absl::Status ExplainPlans(const std::string& path, const ModelFlags& flags,
                          const ExplainOptions& options, nlohmann::ordered_json* json,
                          std::string* text) {
  const int64_t before = ResidentBytes();
  RK_ASSIGN_OR_RETURN(const auto opened, OpenModel(path, flags));
  const int64_t resident = ResidentBytes() - before;
  DeviceProfile profile = kPlanningProfile;
  if (!options.planning_profile) {
    RK_ASSIGN_OR_RETURN(profile, KeptOrMeasuredProfile(*opened.device));
  }
  *text += ProfileText(*opened.device, profile);
  (*json)["profile"] = ProfileJson(profile);
  int64_t dense = 0;
  Json& groups = (*json)["groups"] = Json::array();
  PlanTimer timer(*opened.device, profile);
  ProgressBar bar("measure");
  const auto all = opened.model->groups();
  for (size_t i = 0; i < all.size(); ++i) {
    dense += DenseBytes(*all[i]);
    Measured measured;
    if (options.measure) {
      bar.Update(static_cast<double>(i) / static_cast<double>(all.size()), all[i]->name());
      RK_ASSIGN_OR_RETURN(measured, timer.Measure(*all[i]));
    }
    groups.push_back(GroupJson(*all[i], profile, measured));
    *text += GroupText(*all[i], profile, measured) + "\n";
  }
  (*json)["weight_bytes"] = opened.model->weight_bytes();
  (*json)["weight_bytes_per_token"] = opened.model->weight_bytes_per_token();
  (*json)["dense_linear_bytes"] = dense;
  (*json)["resident_bytes"] = resident;
  *text += MemoryText(*opened.model, dense, resident);
  return absl::OkStatus();
}

}  // namespace rankine
