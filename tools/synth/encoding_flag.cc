#include "tools/synth/encoding_flag.h"

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/manifest_names.h"

namespace rankine {
namespace {

constexpr int kDefaultGroup = 64;

// "int4" and "nf4"; false when it is neither.
bool ParseKind(const std::string& name, Encoding* encoding) {
  if (name == "nf4") {
    encoding->kind = EncodingKind::kNf4;
    return true;
  }
  encoding->kind = EncodingKind::kAffine;
  for (const int bits : kCodeBits) {
    if (name == absl::StrCat("int", bits)) {
      encoding->bits = static_cast<uint8_t>(bits);
      return true;
    }
  }
  return false;
}

bool ParseGroup(const std::string& name, Encoding* encoding) {
  if (name == "row") {
    encoding->group = 0;
    return true;
  }
  for (const int group : kGroupSizes) {
    if (name == absl::StrCat("g", group)) {
      encoding->group = group;
      return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Encoding> ParseEncodingFlag(const std::string& flag, const std::string& text) {
  for (const auto& [name, dtype] : kFloatDTypes) {
    if (text == name) return Encoding::Float(dtype);
  }
  if (text == "e8p") return Encoding{.kind = EncodingKind::kE8P, .scale = ScaleKind::kF32};
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  Encoding encoding{.group = kDefaultGroup};
  bool known = ParseKind(parts[0], &encoding) && parts.size() <= 3;
  if (parts.size() > 1) known = known && ParseGroup(parts[1], &encoding);
  if (parts.size() > 2) {
    known = known && encoding.kind == EncodingKind::kAffine && parts[2] == "offset";
    encoding.offset = OffsetKind::kPerGroup;
  }
  if (known) return encoding;
  return absl::InvalidArgumentError(absl::StrCat(
      flag, ": unknown encoding '", absl::CHexEscape(text),
      "'; use bf16, f16, f32, intN:GROUP or intN:GROUP:offset (N = 2, 3, 4, 5, 6, 8; GROUP = g16, "
      "g32, g64, g128, row), nf4:GROUP or e8p"));
}

std::string EncodingFlagText(const Encoding& encoding) {
  if (encoding.IsFloat()) return std::string(Name(encoding.dtype));
  if (encoding.kind == EncodingKind::kE8P) return "e8p";
  std::string text =
      encoding.kind == EncodingKind::kNf4 ? "nf4" : absl::StrCat("int", encoding.bits);
  absl::StrAppend(&text, ":", encoding.group == 0 ? "row" : absl::StrCat("g", encoding.group));
  if (encoding.HasOffsets()) absl::StrAppend(&text, ":offset");
  return text;
}

}  // namespace rankine
