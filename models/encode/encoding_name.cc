#include "models/encode/encoding_name.h"

#include <optional>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace rankine {
namespace {

constexpr char kGrammar[] =
    "an encoding is f32, f16, bf16, or int2, int3, int4, int5, int6, int8 or nf4 with options: "
    "g16, g32, g64 (default), g128 or row; f16 (default), f32, k or k8 scales; offset or offset16; "
    "for example int4:g32:offset";

absl::Status Bad(std::string_view name, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("encoding \"", absl::CHexEscape(absl::string_view(name.data(), name.size())),
                   "\": ", what, "; ", kGrammar));
}

std::optional<Encoding> ParseKind(std::string_view word) {
  if (word == "f32") return Encoding::Float(DType::kF32);
  if (word == "f16") return Encoding::Float(DType::kF16);
  if (word == "bf16") return Encoding::Float(DType::kBF16);
  if (word == "e8p") return Encoding{.kind = EncodingKind::kE8P, .scale = ScaleKind::kF32};
  if (word == "nf4") return Encoding{.kind = EncodingKind::kNf4, .group = kDefaultGroup};
  for (const uint8_t bits : {2, 3, 4, 5, 6, 8}) {
    if (word == absl::StrCat("int", bits)) {
      return Encoding{.kind = EncodingKind::kAffine, .bits = bits, .group = kDefaultGroup};
    }
  }
  return std::nullopt;
}

// Which options have been given: each kind at most once.
struct Seen {
  bool group = false, scale = false, offset = false;
};

// False when the word is none, or a second one of its kind.
bool Apply(std::string_view word, Encoding* e, Seen* seen) {
  const auto once = [](bool* flag) { return !std::exchange(*flag, true); };
  for (const int32_t group : {0, 16, 32, 64, 128}) {
    if (word == (group == 0 ? std::string("row") : absl::StrCat("g", group))) {
      e->group = group;
      return once(&seen->group);
    }
  }
  static constexpr std::pair<std::string_view, ScaleKind> kScales[] = {
      {"f16", ScaleKind::kF16},
      {"f32", ScaleKind::kF32},
      {"k", ScaleKind::kTwoLevel},
      {"k8", ScaleKind::kTwoLevelI8}};
  for (const auto& [name, scale] : kScales) {
    if (word == name) {
      e->scale = scale;
      return once(&seen->scale);
    }
  }
  if (e->kind != EncodingKind::kAffine || (word != "offset" && word != "offset16")) return false;
  // What "offset" means depends on the scales, which may come later: ParseEncoding settles it.
  e->offset = word == "offset" ? OffsetKind::kTwoLevel : OffsetKind::kPerGroup;
  return once(&seen->offset);
}

}  // namespace

absl::StatusOr<Encoding> ParseEncoding(std::string_view name) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(name.data(), name.size()), ':');
  const std::optional<Encoding> kind = ParseKind(words[0]);
  if (!kind) return Bad(name, "unknown");
  Encoding e = *kind;
  Seen seen;
  const bool takes_options = e.kind == EncodingKind::kAffine || e.kind == EncodingKind::kNf4;
  for (size_t i = 1; i < words.size(); ++i) {
    if (!takes_options || !Apply(words[i], &e, &seen)) {
      return Bad(name, absl::StrCat("the option \"", absl::CHexEscape(words[i]),
                                    "\" is unknown, does not belong to it, or repeats one"));
    }
  }
  if (!takes_options) return e;
  if (e.HasTwoLevelScales() && e.group == 0) {
    return Bad(name, "two-level scales (k, k8) need groups smaller than a row");
  }
  if (e.offset == OffsetKind::kPerGroup && !e.HasTwoLevelScales()) {
    return Bad(name, "offset16 is for two-level scales (k, k8); say offset");
  }
  if (e.offset == OffsetKind::kTwoLevel && !e.HasTwoLevelScales()) {
    e.offset = OffsetKind::kPerGroup;
  }
  return e;
}

std::string EncodingName(const Encoding& e) {
  if (e.IsFloat()) return std::string(Name(e.dtype));
  if (e.kind == EncodingKind::kE8P) return "e8p";
  std::string name = e.kind == EncodingKind::kNf4 ? "nf4" : absl::StrCat("int", e.bits);
  absl::StrAppend(&name, e.group == 0 ? ":row" : absl::StrCat(":g", e.group));
  if (e.scale == ScaleKind::kF32) name += ":f32";
  if (e.scale == ScaleKind::kTwoLevel) name += ":k";
  if (e.scale == ScaleKind::kTwoLevelI8) name += ":k8";
  if (!e.HasOffsets()) return name;
  const bool apart = e.HasTwoLevelScales() && e.offset == OffsetKind::kPerGroup;
  return name + (apart ? ":offset16" : ":offset");
}

}  // namespace rankine
