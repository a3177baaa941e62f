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
#include "tools/cli/explain.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

struct InspectFlags {
  std::string model;
  ModelFlags model_flags;
  ExplainOptions explain_options;
  bool explain = false, json = false;
};

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

absl::Status Inspect(const InspectFlags& flags) {
  auto checkpoint = OpenCheckpoint(flags.model);
  if (!checkpoint.ok()) return checkpoint.status();
  Json json = SummaryJson(**checkpoint, flags.model);
  std::string text = SummaryText(**checkpoint, flags.model);
  if (flags.explain) {
    if (auto status =
            ExplainPlans(flags.model, flags.model_flags, flags.explain_options, &json, &text);
        !status.ok()) {
      return status;
    }
  }
  PrintNow(flags.json ? DumpJson(json) + "\n" : text);
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command =
      app.add_subcommand("inspect", "Say what a model is, and how it will be executed");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_flag("--explain", flags->explain,
                    "Load it; print each layer's plan per token count, with predictions");
  command->add_flag(
      "--measure", flags->explain_options.measure,
      "With --explain: also run each plan at every token count, from memory; once for layers of "
      "the same plan");
  command->add_flag("--planning-profile", flags->explain_options.planning_profile,
                    "Predict with the fixed profile that plans are chosen by, not with this "
                    "machine's measured one");
  command->add_flag("--json", flags->json, "Print JSON");
  flags->model_flags.AddComputeTo(*command);
  command->callback([flags, action] { *action = [flags] { return Inspect(*flags); }; });
}

}  // namespace rankine
