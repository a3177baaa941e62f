// tokenizer.json to BpeTokenizerSpec. The format is that of Hugging Face's `tokenizers`; whatever
// it can say and this engine cannot do is an error that names it.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/json_value.h"

namespace rankine::tokenizer {
namespace {

using nlohmann::json;

// A hundred in every published model; cutting a word costs the square of its length.
constexpr int64_t kMaxWordCharacters = 10000;

int32_t TokenIdOf(const JsonValue& value) {
  const int64_t id = value.Int();
  if (id < 0 || id >= kMaxVocabulary) {
    value.Fail(absl::StrCat("the id ", id, " is out of range"));
    return 0;
  }
  return static_cast<int32_t>(id);
}

AddedToken ReadAddedToken(const JsonValue& value) {
  value.AllowKeys({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = TokenIdOf(value["id"]);
  token.content = value["content"].String();
  if (token.content.empty()) value["content"].Fail("is empty");
  if (token.content.size() > kMaxAddedTokenBytes) value["content"].Fail("is too long");
  token.special = value["special"].Bool(false);
  token.normalized = value["normalized"].Bool(!token.special);
  token.single_word = value["single_word"].Bool(false);
  token.lstrip = value["lstrip"].Bool(false);
  token.rstrip = value["rstrip"].Bool(false);
  return token;
}

// {"String": "..."} or {"Regex": "..."}.
void ReadPattern(const JsonValue& value, std::string* literal, std::optional<Regex>* regex) {
  value.AllowKeys({"String", "Regex"});
  if (!value.IsObject()) return;
  if (value["Regex"].IsNull()) {
    *literal = value["String"].String();
    if (literal->empty()) value.NotSupported("an empty pattern");
    return;
  }
  absl::StatusOr<Regex> compiled = Regex::Compile(value["Regex"].String());
  if (compiled.ok()) {
    *regex = *std::move(compiled);
  } else if (absl::IsUnimplemented(compiled.status())) {
    value.NotSupported(std::string(compiled.status().message()));
  } else {
    value.Fail(std::string(compiled.status().message()));
  }
}

void ReadNormalizer(const JsonValue& value, std::vector<NormalizerStep>* steps) {
  using Kind = NormalizerStep::Kind;
  if (value.IsNull()) return;
  const std::string type = value["type"].String();
  NormalizerStep step{};
  if (type == "Sequence") {
    value.AllowKeys({"type", "normalizers"});
    for (const JsonValue& element : value["normalizers"].Elements()) ReadNormalizer(element, steps);
    return;
  }
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD" || type == "Lowercase") {
    value.AllowKeys({"type"});
    step.kind = type == "NFC"    ? Kind::kNfc
                : type == "NFD"  ? Kind::kNfd
                : type == "NFKC" ? Kind::kNfkc
                : type == "NFKD" ? Kind::kNfkd
                                 : Kind::kLowercase;
  } else if (type == "Strip") {
    value.AllowKeys({"type", "strip_left", "strip_right"});
    step.kind = Kind::kStrip;
    step.strip_left = value["strip_left"].Bool(true);
    step.strip_right = value["strip_right"].Bool(true);
  } else if (type == "Prepend") {
    value.AllowKeys({"type", "prepend"});
    step.kind = Kind::kPrepend;
    step.text = value["prepend"].String();
  } else if (type == "Replace") {
    value.AllowKeys({"type", "pattern", "content"});
    step.kind = Kind::kReplace;
    ReadPattern(value["pattern"], &step.literal, &step.regex);
    step.text = value["content"].String();
  } else if (type == "BertNormalizer") {
    value.AllowKeys({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
    step.kind = Kind::kBert;
    step.bert.clean_text = value["clean_text"].Bool(true);
    step.bert.space_around_chinese = value["handle_chinese_chars"].Bool(true);
    if (!value["strip_accents"].IsNull())
      step.bert.strip_accents = value["strip_accents"].Bool(false);
    step.bert.lowercase = value["lowercase"].Bool(true);
  } else {
    value.NotSupported(absl::StrCat("a normalizer of type \"", type, "\""));
  }
  steps->push_back(std::move(step));
}

PreTokenizerStep::Behavior ReadBehavior(const JsonValue& value) {
  using Behavior = PreTokenizerStep::Behavior;
  const std::string name = value.String();
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  value.NotSupported(absl::StrCat("\"", name, "\""));
  return Behavior::kIsolated;
}

PreTokenizerStep ReadByteLevel(const JsonValue& value) {
  value.AllowKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  PreTokenizerStep step{};
  step.kind = PreTokenizerStep::Kind::kByteLevel;
  step.add_prefix_space = value["add_prefix_space"].Bool(true);
  if (value["use_regex"].Bool(true)) {
    absl::StatusOr<Regex> regex = Regex::Compile(kGpt2Pattern);
    if (regex.ok()) {
      step.regex = *std::move(regex);
    } else {
      value.Fail(std::string(regex.status().message()));
    }
  }
  return step;
}

PreTokenizerStep ReadMetaspace(const JsonValue& value) {
  using Prepend = PreTokenizerStep::Prepend;
  value.AllowKeys(
      {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  PreTokenizerStep step{};
  step.kind = PreTokenizerStep::Kind::kMetaspace;
  step.replacement = value["replacement"].String();
  step.split = value["split"].Bool(true);
  const std::string scheme =
      value["prepend_scheme"].String(value["add_prefix_space"].Bool(true) ? "always" : "never");
  if (scheme == "always") {
    step.prepend = Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = Prepend::kNever;
  } else {
    value["prepend_scheme"].NotSupported(absl::StrCat("\"", scheme, "\""));
  }
  if (step.replacement.empty()) value["replacement"].Fail("is empty");
  return step;
}

void ReadPreTokenizer(const JsonValue& value, std::vector<PreTokenizerStep>* steps) {
  if (value.IsNull()) return;
  const std::string type = value["type"].String();
  PreTokenizerStep step{};
  if (type == "Sequence") {
    value.AllowKeys({"type", "pretokenizers"});
    for (const JsonValue& element : value["pretokenizers"].Elements()) {
      ReadPreTokenizer(element, steps);
    }
    return;
  }
  if (type == "ByteLevel") {
    step = ReadByteLevel(value);
  } else if (type == "Metaspace") {
    step = ReadMetaspace(value);
  } else if (type == "Split") {
    value.AllowKeys({"type", "pattern", "behavior", "invert"});
    step.kind = PreTokenizerStep::Kind::kSplit;
    ReadPattern(value["pattern"], &step.literal, &step.regex);
    step.behavior = ReadBehavior(value["behavior"]);
    step.invert = value["invert"].Bool(false);
  } else if (type == "Digits") {
    value.AllowKeys({"type", "individual_digits"});
    step.kind = PreTokenizerStep::Kind::kDigits;
    step.individual_digits = value["individual_digits"].Bool(false);
  } else if (type == "BertPreTokenizer") {
    value.AllowKeys({"type"});
    step.kind = PreTokenizerStep::Kind::kBert;
  } else {
    value.NotSupported(absl::StrCat("a pre-tokenizer of type \"", type, "\""));
  }
  steps->push_back(std::move(step));
}

void ReadMerge(const JsonValue& value, BpeSpec* model) {
  if (value.IsArray()) {
    const std::vector<JsonValue> pair = value.Elements();
    if (pair.size() == 2) {
      model->merges.emplace_back(pair[0].String(), pair[1].String());
    } else {
      value.Fail("should be a pair");
    }
    return;
  }
  const std::string text = value.String();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    value.Fail("should be two tokens with one space between");
    return;
  }
  model->merges.emplace_back(text.substr(0, space), text.substr(space + 1));
}

void ReadVocabulary(const JsonValue& vocabulary, BpeSpec* model);

// Of what a BPE model has, only vocabulary and unknown token.
void ReadWordPiece(const JsonValue& value, BpeTokenizerSpec* spec) {
  value.AllowKeys(
      {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
  WordPieceSpec word_piece;
  word_piece.continuing_prefix = value["continuing_subword_prefix"].String("##");
  if (!value["max_input_chars_per_word"].IsNull()) {
    word_piece.max_characters = value["max_input_chars_per_word"].Int();
    // A word costs the square of it.
    if (word_piece.max_characters < 0 || word_piece.max_characters > kMaxWordCharacters)
      value["max_input_chars_per_word"].Fail(absl::StrCat("is over ", kMaxWordCharacters));
  }
  spec->word_piece = std::move(word_piece);
  spec->model.unknown_token = value["unk_token"].String("[UNK]");
  ReadVocabulary(value["vocab"], &spec->model);
}

void ReadModel(const JsonValue& value, BpeTokenizerSpec* spec) {
  BpeSpec* model = &spec->model;
  // Files from before 2021 do not name the type of a BPE.
  const std::string type = value["type"].String("BPE");
  if (type == "WordPiece") return ReadWordPiece(value, spec);
  if (type != "BPE") {
    value.NotSupported(absl::StrCat("a model of type \"", type, "\""));
    return;
  }
  value.AllowKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                   "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                   "merges"});
  const JsonValue dropout = value["dropout"];
  const bool no_dropout =
      dropout.IsNull() || (dropout.raw()->is_number() && dropout.raw()->get<double>() == 0);
  if (!no_dropout) dropout.NotSupported("dropout");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!value[key].String("").empty()) value[key].NotSupported("a mark inside words");
  }
  model->unknown_token = value["unk_token"].String("");
  model->fuse_unknown = value["fuse_unk"].Bool(false);
  model->byte_fallback = value["byte_fallback"].Bool(false);
  model->ignore_merges = value["ignore_merges"].Bool(false);
  ReadVocabulary(value["vocab"], model);
  for (const JsonValue& merge : value["merges"].Elements()) ReadMerge(merge, model);
}

void ReadVocabulary(const JsonValue& vocabulary, BpeSpec* model) {
  if (!vocabulary.IsObject()) {
    vocabulary.Fail("should be an object");
    return;
  }
  model->vocabulary.reserve(vocabulary.raw()->size());
  for (const auto& [piece, id] : vocabulary.raw()->items()) {
    // One JsonValue per token, made by hand: operator[] would search for the key again.
    if (!id.is_number_integer()) {
      vocabulary.Fail(absl::StrCat("the id of \"", piece, "\" should be an integer"));
      return;
    }
    const int64_t value_of_id = id.is_number_unsigned() && id.get<uint64_t>() > INT64_MAX
                                    ? kMaxVocabulary
                                    : id.get<int64_t>();
    if (value_of_id < 0 || value_of_id >= kMaxVocabulary) {
      vocabulary.Fail(absl::StrCat("the id of \"", piece, "\" is out of range"));
      return;
    }
    model->vocabulary.emplace_back(piece, static_cast<int32_t>(value_of_id));
  }
}

void ReadTemplate(const JsonValue& value, BpeTokenizerSpec* spec) {
  value.AllowKeys({"type", "single", "pair", "special_tokens"});
  bool seen_text = false;
  for (const JsonValue& item : value["single"].Elements()) {
    item.AllowKeys({"SpecialToken", "Sequence"});
    if (!item.IsObject()) return;
    if (!item["Sequence"].IsNull()) {
      if (seen_text) item.NotSupported("a text that is used twice");
      seen_text = true;
      continue;
    }
    const std::string name = item["SpecialToken"]["id"].String();
    const JsonValue token = value["special_tokens"][name.c_str()];
    for (const JsonValue& id : token["ids"].Elements()) {
      (seen_text ? spec->suffix : spec->prefix).push_back(TokenIdOf(id));
    }
  }
  if (!seen_text) value["single"].NotSupported("a template without the text");
}

void ReadPostProcessor(const JsonValue& value, BpeTokenizerSpec* spec) {
  if (value.IsNull()) return;
  const std::string type = value["type"].String();
  if (type == "Sequence") {
    value.AllowKeys({"type", "processors"});
    for (const JsonValue& element : value["processors"].Elements()) {
      ReadPostProcessor(element, spec);
    }
  } else if (type == "TemplateProcessing") {
    if (!spec->prefix.empty() || !spec->suffix.empty()) {
      value.NotSupported("a second template");
      return;
    }
    ReadTemplate(value, spec);
  } else if (type == "BertProcessing") {
    value.AllowKeys({"type", "sep", "cls"});
    for (const auto& [key, ids] :
         {std::pair("cls", &spec->prefix), std::pair("sep", &spec->suffix)}) {
      const std::vector<JsonValue> pair = value[key].Elements();  // ["[CLS]", 101]
      if (pair.size() != 2) return value[key].Fail("should be a token and its id");
      ids->push_back(TokenIdOf(pair[1]));
    }
  } else if (type != "ByteLevel") {  // ByteLevel only moves offsets, which nobody reads here
    value.NotSupported(absl::StrCat("a post-processor of type \"", type, "\""));
  }
}

// What the decoder has seen so far: after Fuse, a step works on the whole text and not on one
// token.
struct DecoderState {
  bool fused = false;
};

void ReadDecoder(const JsonValue& value, DecoderState* state, BpeTokenizerSpec* spec) {
  using Kind = TokenTextStep::Kind;
  const std::string type = value["type"].String();
  if (type == "Sequence") {
    value.AllowKeys({"type", "decoders"});
    for (const JsonValue& element : value["decoders"].Elements()) {
      ReadDecoder(element, state, spec);
    }
  } else if (type == "Strip") {
    value.AllowKeys({"type", "content", "start", "stop"});
    const bool is_leading_space = state->fused && value["content"].String() == " " &&
                                  value["start"].Int() == 1 && value["stop"].Int() == 0;
    if (!is_leading_space) value.NotSupported("anything but one leading space of the whole text");
    spec->strip_leading_space = true;
  } else if (type == "WordPiece") {
    value.AllowKeys({"type", "prefix", "cleanup"});
    spec->decoder.push_back(
        {Kind::kWordPiece, value["prefix"].String("##"), "", value["cleanup"].Bool(true)});
    spec->strip_leading_space = true;
  } else if (state->fused) {
    value.NotSupported(absl::StrCat("\"", type, "\" after \"Fuse\""));
  } else if (type == "Fuse") {
    state->fused = true;
  } else if (type == "ByteLevel") {
    spec->decoder.push_back({Kind::kByteLevel, "", ""});
  } else if (type == "ByteFallback") {
    spec->decoder.push_back({Kind::kByteFallback, "", ""});
  } else if (type == "Replace") {
    value.AllowKeys({"type", "pattern", "content"});
    if (value["pattern"]["String"].IsNull())
      value["pattern"].NotSupported("a pattern other than String");
    spec->decoder.push_back(
        {Kind::kReplace, value["pattern"]["String"].String(""), value["content"].String()});
  } else if (type == "Metaspace") {
    const PreTokenizerStep metaspace = ReadMetaspace(value);
    spec->decoder.push_back({Kind::kReplace, metaspace.replacement, " "});
    spec->strip_leading_space = metaspace.prepend != PreTokenizerStep::Prepend::kNever;
    state->fused = true;
  } else {
    value.NotSupported(absl::StrCat("a decoder of type \"", type, "\""));
  }
}

}  // namespace

absl::StatusOr<BpeTokenizerSpec> ReadBpeSpec(std::string_view text) {
  absl::StatusOr<json> document = ParseJson(text, "tokenizer.json");
  if (!document.ok()) return document.status();
  absl::Status status;
  const JsonValue root(&*document, "", &status);
  if (!root.IsObject()) return absl::InvalidArgumentError("tokenizer.json: should be an object");
  root.AllowKeys({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                  "post_processor", "decoder", "model"});
  // Truncation and padding belong to training batches; a caller of Encode gets the whole text, as
  // from transformers, which switches both off.
  BpeTokenizerSpec spec;
  if (!root["added_tokens"].IsNull()) {
    for (const JsonValue& element : root["added_tokens"].Elements()) {
      spec.added_tokens.push_back(ReadAddedToken(element));
    }
  }
  ReadNormalizer(root["normalizer"], &spec.normalizer);
  ReadPreTokenizer(root["pre_tokenizer"], &spec.pre_tokenizer);
  ReadModel(root["model"], &spec);
  ReadPostProcessor(root["post_processor"], &spec);
  if (root["decoder"].IsNull()) {
    root["decoder"].NotSupported("a tokenizer without a decoder");
  } else {
    DecoderState state;
    ReadDecoder(root["decoder"], &state, &spec);
  }
  if (!status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat("tokenizer.json: ", std::string(status.message())));
  }
  return spec;
}

}  // namespace rankine::tokenizer
