// rankine inspect MODEL: what a model is; with --explain, how each of its layers will be executed.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/encoding_summary.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/measure/bench.h"
#include "tools/measure/group_timer.h"
#include "tools/measure/profile.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string model;
  ModelFlags model_flags;
  bool explain = false, json = false, planning_profile = false, measure = false;
};

// Bytes that the linears would take as dense matrices of the same dtype.
int64_t DenseBytes(const LinearGroup& group) {
  int64_t total = 0;
  for (const FactoredMatrix& m : group.matrices()) {
    total += m.out_features * m.in_features * static_cast<int64_t>(SizeOf(group.weight_dtype()));
  }
  return total;
}

int64_t FileBytes(const Checkpoint& checkpoint) {
  int64_t total = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) total += tensor.stored_bytes;
  return total;
}

// Names of the linears that have a core in common with another, as those of a stack have.
absl::flat_hash_set<std::string> NamesThatShare(absl::Span<const FactoredMatrix> matrices) {
  absl::flat_hash_map<std::string, std::string> user_of;
  absl::flat_hash_set<std::string> names;
  for (const FactoredMatrix& m : matrices) {
    for (const Term& term : m.terms) {
      for (const Core& core : term.cores) {
        for (const CoreTensor& tensor : core.tensors) {
          const std::string& first = user_of.try_emplace(tensor.tensor, m.name).first->second;
          if (first != m.name) names.insert({first, m.name});
        }
      }
    }
  }
  return names;
}

Json SummaryJson(const Checkpoint& checkpoint, const std::string& path) {
  const ModelConfig& c = checkpoint.config();
  Json json = {{"path", path},
               {"architecture", c.architecture},
               {"num_layers", c.num_layers},
               {"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_heads", c.num_heads},
               {"num_kv_heads", c.num_kv_heads},
               {"head_dim", c.head_dim},
               {"vocab_size", c.vocab_size},
               {"context_length", c.max_position},
               {"tied_embedding", c.tie_embeddings},
               {"random_weights", c.random_weights},
               {"file_bytes", FileBytes(checkpoint)},
               {"unused_tensors", checkpoint.unused_tensors()},
               {"encodings", Json::array()},
               {"factored", Json::array()}};
  const EncodingSummary encodings = SummarizeEncodings(checkpoint);
  for (const EncodingUse& use : encodings.uses) {
    json["encodings"].push_back({{"encoding", use.encoding},
                                 {"ggml", use.ggml},
                                 {"cores", use.cores},
                                 {"numbers", use.numbers},
                                 {"bytes", use.bytes},
                                 {"bits_per_number", use.bits_per_number()}});
  }
  json["bits_per_weight"] = encodings.bits_per_weight();
  const auto sharing = NamesThatShare(checkpoint.factored());
  for (const FactoredMatrix& m : checkpoint.factored()) {
    json["factored"].push_back({{"name", m.name},
                                {"out_features", m.out_features},
                                {"in_features", m.in_features},
                                {"parameters", m.NumParameters()},
                                {"shares_cores", sharing.contains(m.name)},
                                {"dense", IsDense(m)},
                                {"method", m.provenance.method},
                                {"relative_error", m.provenance.relative_error},
                                {"weighted_error", m.provenance.weighted_error},
                                {"pivot_error", m.provenance.pivot_error}});
  }
  return json;
}

std::string SummaryText(const Checkpoint& checkpoint, const std::string& path) {
  const ModelConfig& c = checkpoint.config();
  const int64_t num_dense =
      std::count_if(checkpoint.factored().begin(), checkpoint.factored().end(), IsDense);
  std::string out = absl::StrFormat(
      "%s: %s, %d layers, hidden %d, FFN %d, %d heads (%d KV) of %d, vocabulary %d, context %d, %s "
      "embedding\n"
      "%d tensors, %s on disk; %d linears factored, %d dense but encoded\n",
      path, c.architecture, c.num_layers, c.hidden_size, c.intermediate_size, c.num_heads,
      c.num_kv_heads, c.head_dim, c.vocab_size, c.max_position,
      c.tie_embeddings ? "tied" : "untied", checkpoint.tensors().size(),
      FormatBytes(static_cast<double>(FileBytes(checkpoint))),
      checkpoint.factored().size() - num_dense, num_dense);
  if (c.random_weights) out += "random weights: for measuring speed, its output means nothing\n";
  if (!checkpoint.unused_tensors().empty()) {
    absl::StrAppendFormat(&out, "no part of the model, and left out: %s\n",
                          absl::StrJoin(checkpoint.unused_tensors(), ", "));
  }
  out += EncodingTable(SummarizeEncodings(checkpoint));
  const auto sharing = NamesThatShare(checkpoint.factored());
  for (const FactoredMatrix& m : checkpoint.factored()) {
    if (IsDense(m)) continue;
    int64_t dense = m.out_features * m.in_features;
    absl::StrAppendFormat(&out, "  %-40s [%d, %d] %s, %.3f of its parameters", m.name,
                          m.out_features, m.in_features, m.provenance.method,
                          static_cast<double>(m.NumParameters()) / static_cast<double>(dense));
    if (sharing.contains(m.name)) out += ", cores of other linears among them";
    if (m.provenance.relative_error >= 0)
      absl::StrAppendFormat(&out, ", relative error %.4f", m.provenance.relative_error);
    if (m.provenance.weighted_error >= 0)
      absl::StrAppendFormat(&out, ", weighted %.4f", m.provenance.weighted_error);
    if (m.provenance.pivot_error >= 0)
      absl::StrAppendFormat(&out, ", pivoted at %.2g", m.provenance.pivot_error);
    out += "\n";
  }
  return out;
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

// Seconds at each of kTokenBuckets; empty without --measure.
using Measured = std::vector<double>;

absl::StatusOr<Measured> MeasureBuckets(Device& device, const LinearGroup& group, bool measure) {
  Measured seconds;
  if (!measure) return seconds;
  for (const int64_t tokens : kTokenBuckets) {
    auto one = MeasureGroup(device, group, tokens);
    if (!one.ok()) return one.status();
    seconds.push_back(*one);
  }
  return seconds;
}

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

absl::Status Explain(const Flags& flags, Json* json, std::string* text) {
  const int64_t before = ResidentBytes();
  auto opened = OpenModel(flags.model, flags.model_flags);
  if (!opened.ok()) return opened.status();
  const int64_t resident = ResidentBytes() - before;
  DeviceProfile profile = kPlanningProfile;
  if (!flags.planning_profile) {
    auto measured = KeptOrMeasuredProfile(*opened->device);
    if (!measured.ok()) return measured.status();
    profile = *measured;
  }
  int64_t dense = 0;
  Json groups = Json::array();
  absl::StrAppendFormat(text,
                        "%s; profile: %.1f GB/s (L3 %.1f, L2 %.1f), GFLOP/s %.0f f32, %.0f bf16, "
                        "%.0f int8, %.1f us a "
                        "step\n\n",
                        opened->device->description(), profile.read_bytes_per_second * 1e-9,
                        profile.l3_bytes_per_second * 1e-9, profile.l2_bytes_per_second * 1e-9,
                        profile.f32_flops_per_second * 1e-9, profile.bf16_flops_per_second * 1e-9,
                        profile.int8_flops_per_second * 1e-9, profile.step_seconds * 1e6);
  for (const LinearGroup* group : opened->model->groups()) {
    dense += DenseBytes(*group);
    auto measured = MeasureBuckets(*opened->device, *group, flags.measure);
    if (!measured.ok()) return measured.status();
    flags.json ? groups.push_back(GroupJson(*group, profile, *measured))
               : void(*text += GroupText(*group, profile, *measured) + "\n");
  }
  (*json)["profile"] = {{"read_bytes_per_second", profile.read_bytes_per_second},
                        {"f32_flops_per_second", profile.f32_flops_per_second},
                        {"bf16_flops_per_second", profile.bf16_flops_per_second},
                        {"int8_flops_per_second", profile.int8_flops_per_second},
                        {"l3_bytes_per_second", profile.l3_bytes_per_second},
                        {"l2_bytes_per_second", profile.l2_bytes_per_second},
                        {"step_seconds", profile.step_seconds}};
  (*json)["groups"] = std::move(groups);
  (*json)["weight_bytes"] = opened->model->weight_bytes();
  (*json)["weight_bytes_per_token"] = opened->model->weight_bytes_per_token();
  (*json)["dense_linear_bytes"] = dense;
  (*json)["resident_bytes"] = resident;
  absl::StrAppendFormat(
      text,
      "weights in memory %s, read per token %s; the same linears dense: %s\n"
      "resident set grew by %s while loading%s\n",
      FormatBytes(static_cast<double>(opened->model->weight_bytes())),
      FormatBytes(static_cast<double>(opened->model->weight_bytes_per_token())),
      FormatBytes(static_cast<double>(dense)), FormatBytes(static_cast<double>(resident)),
      resident < dense ? ": less than the dense matrices alone, so no dense copy exists" : "");
  return absl::OkStatus();
}

absl::Status Inspect(const Flags& flags) {
  auto checkpoint = OpenCheckpoint(flags.model);
  if (!checkpoint.ok()) return checkpoint.status();
  Json json = SummaryJson(**checkpoint, flags.model);
  std::string text = SummaryText(**checkpoint, flags.model);
  if (flags.explain) {
    if (auto status = Explain(flags, &json, &text); !status.ok()) return status;
  }
  PrintNow(flags.json ? DumpJson(json) + "\n" : text);
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("inspect", "Say what a model is, and how it will be executed");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_flag("--explain", flags->explain,
                    "Load it; print each layer's plan per token count, with predictions");
  command->add_flag("--measure", flags->measure,
                    "With --explain: also run each layer's plan at every token count, from memory");
  command->add_flag("--planning-profile", flags->planning_profile,
                    "Predict with the fixed profile that plans are chosen by, not with this "
                    "machine's measured one");
  command->add_flag("--json", flags->json, "Print JSON");
  flags->model_flags.AddComputeTo(*command);
  command->callback([flags, action] { *action = [flags] { return Inspect(*flags); }; });
}

}  // namespace rankine
