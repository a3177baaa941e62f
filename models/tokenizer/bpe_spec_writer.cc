// BpeTokenizerSpec to tokenizer.json, as Hugging Face's `tokenizers` reads it. Only specs that come
// from a GGUF are written: byte-level, with a byte-level decoder.
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/check.h"
#include "models/files/json_text.h"
#include "models/tokenizer/bpe_spec.h"

namespace rankine::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

Json AddedTokensJson(const std::vector<AddedToken>& tokens) {
  Json list = Json::array();
  for (const AddedToken& token : tokens) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

Json NormalizerJson(const std::vector<NormalizerStep>& steps) {
  if (steps.empty()) return nullptr;
  RK_CHECK(steps.size() == 1 && steps[0].kind == NormalizerStep::Kind::kNfc);
  return {{"type", "NFC"}};
}

Json PreTokenizerStepJson(const PreTokenizerStep& step) {
  switch (step.kind) {
    case PreTokenizerStep::Kind::kByteLevel:
      return {{"type", "ByteLevel"},
              {"add_prefix_space", step.add_prefix_space},
              {"trim_offsets", true},
              {"use_regex", step.regex.has_value()}};
    case PreTokenizerStep::Kind::kDigits:
      return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
    case PreTokenizerStep::Kind::kSplit:
      RK_CHECK(step.regex.has_value());
      return {{"type", "Split"},
              {"pattern", {{"Regex", step.regex->pattern()}}},
              {"behavior", "Isolated"},
              {"invert", false}};
    case PreTokenizerStep::Kind::kBert:
    case PreTokenizerStep::Kind::kMetaspace:
      break;
  }
  RK_CHECK(false);
  return nullptr;
}

Json PreTokenizerJson(const std::vector<PreTokenizerStep>& steps) {
  Json list = Json::array();
  for (const PreTokenizerStep& step : steps) list.push_back(PreTokenizerStepJson(step));
  if (list.size() == 1) return list[0];
  return {{"type", "Sequence"}, {"pretokenizers", list}};
}

Json ByteLevelJson() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", true}};
}

Json PostProcessorJson(const BpeTokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return ByteLevelJson();
  absl::flat_hash_map<int32_t, std::string> pieces;
  for (const auto& [piece, id] : spec.model.vocabulary) pieces[id] = piece;
  Json special_tokens = Json::object();
  const auto special = [&](int32_t id) -> Json {
    const std::string& piece = pieces[id];
    special_tokens[piece] = {
        {"id", piece}, {"ids", Json::array({id})}, {"tokens", Json::array({piece})}};
    return {{"SpecialToken", {{"id", piece}, {"type_id", 0}}}};
  };
  const auto with_text = [&](const char* text, Json list) {
    for (int32_t id : spec.prefix) list.push_back(special(id));
    list.push_back({{"Sequence", {{"id", text}, {"type_id", 0}}}});
    for (int32_t id : spec.suffix) list.push_back(special(id));
    return list;
  };
  const Json single = with_text("A", Json::array());
  const Json pair = with_text("B", single);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", special_tokens}};
}

Json ModelJson(const BpeSpec& model) {
  Json vocabulary = Json::object();
  auto& entries = vocabulary.get_ref<Json::object_t&>();
  entries.reserve(model.vocabulary.size());
  // Straight into the underlying list: an ordered_json looks through all keys at each insertion.
  for (const auto& [piece, id] : model.vocabulary) entries.emplace_back(piece, id);
  Json merges = Json::array();
  for (const auto& [left, right] : model.merges) merges.push_back(left + " " + right);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", model.fuse_unknown},
          {"byte_fallback", model.byte_fallback},
          {"ignore_merges", model.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string WriteBpeSpec(const BpeTokenizerSpec& spec) {
  RK_CHECK(spec.decoder.size() == 1 && spec.decoder[0].kind == TokenTextStep::Kind::kByteLevel);
  const Json document = {{"version", "1.0"},
                         {"truncation", nullptr},
                         {"padding", nullptr},
                         {"added_tokens", AddedTokensJson(spec.added_tokens)},
                         {"normalizer", NormalizerJson(spec.normalizer)},
                         {"pre_tokenizer", PreTokenizerJson(spec.pre_tokenizer)},
                         {"post_processor", PostProcessorJson(spec)},
                         {"decoder", ByteLevelJson()},
                         {"model", ModelJson(spec.model)}};
  return DumpJson(document, 1) + "\n";
}

}  // namespace rankine::tokenizer
