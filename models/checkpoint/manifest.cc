#include "models/checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <unordered_set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/checkpoint/json.h"
#include "models/checkpoint/manifest_names.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Keys that a later version gives a meaning to: experts is a batch leg, shards an axis over
// devices.
constexpr std::array kReservedKeys = {"experts", "shards"};

// Fails on the first key that is not `allowed`, a comment or an extension.
absl::Status CheckKeys(const JsonValue& object, std::initializer_list<const char*> allowed) {
  RK_ASSIGN_OR_RETURN(const auto members, object.Members());
  for (const auto& [key, value] : members) {
    if (key == "comment" || absl::StartsWith(key, "x-")) continue;
    if (std::find(allowed.begin(), allowed.end(), key) != allowed.end()) continue;
    if (std::find(kReservedKeys.begin(), kReservedKeys.end(), key) != kReservedKeys.end()) {
      return value.Error("reserved, not supported by this version");
    }
    return value.Error("unknown key; it may change what the matrix means, so it is not ignored");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RequiredString(const JsonValue& object, const std::string& key) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  RK_ASSIGN_OR_RETURN(std::string text, value.String());
  if (text.empty()) return value.Error("is empty");
  return text;
}

absl::StatusOr<int64_t> RequiredInt(const JsonValue& object, const std::string& key) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  return value.Int();
}

absl::StatusOr<std::string> StringOr(const JsonValue& object, const std::string& key) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return std::string();
  return value->String();
}

absl::StatusOr<double> NumberOr(const JsonValue& object, const std::string& key, double fallback) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return fallback;
  return value->Number();
}

// The enumerator that `key` of `object` names.
template <class Enum, size_t kSize>
absl::StatusOr<Enum> RequiredEnum(const JsonValue& object, const std::string& key,
                                  const NamedValue<Enum> (&table)[kSize]) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  RK_ASSIGN_OR_RETURN(const std::string name, value.String());
  std::vector<std::string> known;
  for (const NamedValue<Enum>& entry : table) {
    if (name == entry.name) return entry.value;
    known.push_back(entry.name);
  }
  return value.Error(absl::StrCat("\"", absl::CHexEscape(name),
                                  "\" is unknown; known: ", absl::StrJoin(known, ", ")));
}

absl::StatusOr<int32_t> ReadGroup(const JsonValue& encoding) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, encoding.Get("group"));
  if (value.IsString()) {
    RK_ASSIGN_OR_RETURN(const std::string text, value.String());
    if (text == "row") return 0;
  } else {
    RK_ASSIGN_OR_RETURN(const int64_t group, value.Int());
    for (const int32_t known : kGroupSizes) {
      if (group == known) return known;
    }
  }
  return value.Error("must be 16, 32, 64, 128 or \"row\"");
}

absl::StatusOr<Encoding> ReadAffine(const JsonValue& value) {
  RK_RETURN_IF_ERROR(CheckKeys(value, {"kind", "bits", "group", "group_leg", "scale", "offset"}));
  Encoding encoding{.kind = EncodingKind::kAffine};
  RK_ASSIGN_OR_RETURN(const JsonValue bits_value, value.Get("bits"));
  RK_ASSIGN_OR_RETURN(const int64_t bits, bits_value.Int());
  if (std::find(std::begin(kCodeBits), std::end(kCodeBits), bits) == std::end(kCodeBits)) {
    return bits_value.Error(absl::StrCat(bits, " bits are unknown; known: 2, 3, 4, 5, 6, 8"));
  }
  encoding.bits = static_cast<uint8_t>(bits);
  RK_ASSIGN_OR_RETURN(encoding.group, ReadGroup(value));
  RK_ASSIGN_OR_RETURN(encoding.scale, RequiredEnum(value, "scale", kScaleKinds));
  RK_ASSIGN_OR_RETURN(encoding.offset, RequiredEnum(value, "offset", kOffsetKinds));
  return encoding;
}

absl::StatusOr<Encoding> ReadEncoding(const JsonValue& value) {
  RK_ASSIGN_OR_RETURN(const EncodingKind kind, RequiredEnum(value, "kind", kEncodingKinds));
  Encoding encoding{.kind = kind};
  switch (kind) {
    case EncodingKind::kFloat: {
      RK_RETURN_IF_ERROR(CheckKeys(value, {"kind", "dtype"}));
      RK_ASSIGN_OR_RETURN(encoding.dtype, RequiredEnum(value, "dtype", kFloatDTypes));
      break;
    }
    case EncodingKind::kAffine: {
      RK_ASSIGN_OR_RETURN(encoding, ReadAffine(value));
      break;
    }
    case EncodingKind::kNf4: {
      RK_RETURN_IF_ERROR(CheckKeys(value, {"kind", "group", "group_leg", "scale"}));
      RK_ASSIGN_OR_RETURN(encoding.group, ReadGroup(value));
      RK_ASSIGN_OR_RETURN(encoding.scale, RequiredEnum(value, "scale", kScaleKinds));
      break;
    }
    case EncodingKind::kE8P: {
      RK_RETURN_IF_ERROR(CheckKeys(value, {"kind", "group_leg"}));
      encoding.scale = ScaleKind::kF32;
      break;
    }
  }
  return encoding;
}

absl::StatusOr<std::vector<LegRange>> ReadLegs(const JsonValue& core) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, core.Get("legs"));
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> elements, value.Elements());
  std::vector<LegRange> legs;
  for (const JsonValue& element : elements) {
    RK_RETURN_IF_ERROR(CheckKeys(element, {"name", "offset", "extent", "stored_extent"}));
    LegRange leg;
    RK_ASSIGN_OR_RETURN(leg.name, RequiredString(element, "name"));
    RK_ASSIGN_OR_RETURN(leg.extent, RequiredInt(element, "extent"));
    if (const auto offset = element.Find("offset")) {
      RK_ASSIGN_OR_RETURN(leg.offset, offset->Int());
    }
    if (const auto stored = element.Find("stored_extent")) {
      RK_ASSIGN_OR_RETURN(leg.stored_extent, stored->Int());
      if (leg.stored_extent < 1) return stored->Error("must be positive");
    }
    legs.push_back(std::move(leg));
  }
  return legs;
}

// Groups run along the last leg of storage; the file says so by name, so that a reader need not
// know.
absl::Status CheckGroupLeg(const JsonValue& encoding, const Core& core) {
  if (core.encoding.IsFloat()) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const JsonValue value, encoding.Get("group_leg"));
  RK_ASSIGN_OR_RETURN(const std::string name, value.String());
  if (core.legs.empty() || core.legs.back().name != name) {
    return value.Error(absl::StrCat("groups must run along the last leg of the core, not along \"",
                                    absl::CHexEscape(name), "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<Core> ReadCore(const JsonValue& value) {
  RK_RETURN_IF_ERROR(CheckKeys(value, {"name", "legs", "leading_identity", "encoding", "tensors"}));
  Core core;
  RK_ASSIGN_OR_RETURN(core.name, RequiredString(value, "name"));
  RK_ASSIGN_OR_RETURN(core.legs, ReadLegs(value));
  if (const auto identity = value.Find("leading_identity")) {
    RK_ASSIGN_OR_RETURN(core.leading_identity, identity->Bool());
  }
  RK_ASSIGN_OR_RETURN(const JsonValue encoding, value.Get("encoding"));
  RK_ASSIGN_OR_RETURN(core.encoding, ReadEncoding(encoding));
  RK_RETURN_IF_ERROR(CheckGroupLeg(encoding, core));
  RK_ASSIGN_OR_RETURN(const JsonValue tensors, value.Get("tensors"));
  RK_ASSIGN_OR_RETURN(const auto members, tensors.Members());
  for (const auto& [role, tensor] : members) {
    if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles)) {
      return tensor.Error(absl::StrCat("unknown role; known: ", absl::StrJoin(kRoles, ", ")));
    }
    RK_ASSIGN_OR_RETURN(const std::string name, tensor.String());
    if (name.empty()) return tensor.Error("is empty");
    core.tensors.push_back({role, name});
  }
  return core;
}

absl::StatusOr<std::vector<OuterLeg>> ReadOuterLegs(const JsonValue& matrix,
                                                    const std::string& key) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, matrix.Get(key));
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> elements, value.Elements());
  std::vector<OuterLeg> legs;
  for (const JsonValue& element : elements) {
    RK_RETURN_IF_ERROR(CheckKeys(element, {"name", "extent"}));
    OuterLeg leg;
    RK_ASSIGN_OR_RETURN(leg.name, RequiredString(element, "name"));
    RK_ASSIGN_OR_RETURN(leg.extent, RequiredInt(element, "extent"));
    legs.push_back(std::move(leg));
  }
  return legs;
}

absl::StatusOr<std::vector<Term>> ReadTerms(const JsonValue& matrix) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, matrix.Get("terms"));
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> elements, value.Elements());
  std::vector<Term> terms;
  for (const JsonValue& element : elements) {
    RK_RETURN_IF_ERROR(CheckKeys(element, {"cores"}));
    RK_ASSIGN_OR_RETURN(const JsonValue cores_value, element.Get("cores"));
    RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> cores, cores_value.Elements());
    Term term;
    for (const JsonValue& core_value : cores) {
      RK_ASSIGN_OR_RETURN(Core core, ReadCore(core_value));
      term.cores.push_back(std::move(core));
    }
    terms.push_back(std::move(term));
  }
  return terms;
}

absl::StatusOr<std::vector<Transform>> ReadTransforms(const JsonValue& matrix,
                                                      const std::string& key) {
  std::vector<Transform> transforms;
  const std::optional<JsonValue> value = matrix.Find(key);
  if (!value) return transforms;
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> elements, value->Elements());
  for (const JsonValue& element : elements) {
    Transform transform;
    RK_ASSIGN_OR_RETURN(transform.kind, RequiredEnum(element, "kind", kTransformKinds));
    if (transform.kind == Transform::Kind::kPermutation) {
      RK_RETURN_IF_ERROR(CheckKeys(element, {"kind", "indices"}));
      RK_ASSIGN_OR_RETURN(transform.tensor, RequiredString(element, "indices"));
    } else {
      RK_RETURN_IF_ERROR(CheckKeys(element, {"kind", "signs", "block", "transposed"}));
      RK_ASSIGN_OR_RETURN(transform.tensor, RequiredString(element, "signs"));
      RK_ASSIGN_OR_RETURN(transform.block_tensor, StringOr(element, "block"));
      if (const auto transposed = element.Find("transposed")) {
        RK_ASSIGN_OR_RETURN(transform.transposed, transposed->Bool());
      }
    }
    transforms.push_back(std::move(transform));
  }
  return transforms;
}

absl::StatusOr<Provenance> ReadProvenance(const JsonValue& matrix) {
  Provenance p;
  const std::optional<JsonValue> value = matrix.Find("provenance");
  if (!value) return p;
  RK_RETURN_IF_ERROR(CheckKeys(*value, {"method", "keep", "calibration", "calibration_tokens",
                                        "relative_error", "weighted_error", "pivot_error"}));
  RK_ASSIGN_OR_RETURN(p.method, StringOr(*value, "method"));
  RK_ASSIGN_OR_RETURN(p.keep, NumberOr(*value, "keep", p.keep));
  RK_ASSIGN_OR_RETURN(p.calibration, StringOr(*value, "calibration"));
  if (const auto tokens = value->Find("calibration_tokens")) {
    RK_ASSIGN_OR_RETURN(p.calibration_tokens, tokens->Int());
  }
  RK_ASSIGN_OR_RETURN(p.relative_error, NumberOr(*value, "relative_error", p.relative_error));
  RK_ASSIGN_OR_RETURN(p.weighted_error, NumberOr(*value, "weighted_error", p.weighted_error));
  RK_ASSIGN_OR_RETURN(p.pivot_error, NumberOr(*value, "pivot_error", p.pivot_error));
  return p;
}

absl::StatusOr<FactoredMatrix> ReadMatrix(const JsonValue& value) {
  RK_RETURN_IF_ERROR(CheckKeys(
      value, {"name", "out_features", "in_features", "output_legs", "input_legs", "terms", "bias",
              "input_transforms", "output_transforms", "sorted_leg", "provenance"}));
  FactoredMatrix m;
  RK_ASSIGN_OR_RETURN(m.name, RequiredString(value, "name"));
  RK_ASSIGN_OR_RETURN(m.out_features, RequiredInt(value, "out_features"));
  RK_ASSIGN_OR_RETURN(m.in_features, RequiredInt(value, "in_features"));
  RK_ASSIGN_OR_RETURN(m.output_legs, ReadOuterLegs(value, "output_legs"));
  RK_ASSIGN_OR_RETURN(m.input_legs, ReadOuterLegs(value, "input_legs"));
  RK_ASSIGN_OR_RETURN(m.terms, ReadTerms(value));
  RK_ASSIGN_OR_RETURN(m.bias_tensor, StringOr(value, "bias"));
  RK_ASSIGN_OR_RETURN(m.input_transforms, ReadTransforms(value, "input_transforms"));
  RK_ASSIGN_OR_RETURN(m.output_transforms, ReadTransforms(value, "output_transforms"));
  RK_ASSIGN_OR_RETURN(m.sorted_leg, StringOr(value, "sorted_leg"));
  RK_ASSIGN_OR_RETURN(m.provenance, ReadProvenance(value));
  return m;
}

}  // namespace

absl::StatusOr<std::vector<FactoredMatrix>> ParseManifest(const std::string& text,
                                                          const std::string& source) {
  RK_ASSIGN_OR_RETURN(const JsonValue root, JsonValue::Parse(text, source));
  RK_ASSIGN_OR_RETURN(const JsonValue version_value, root.Get("format_version"));
  RK_ASSIGN_OR_RETURN(const int64_t version, version_value.Int());
  if (version != kManifestFormatVersion) {
    return version_value.Error(absl::StrCat("version ", version,
                                            " is not supported; this program reads version ",
                                            kManifestFormatVersion));
  }
  RK_RETURN_IF_ERROR(CheckKeys(root, {"format_version", "matrices"}));
  RK_ASSIGN_OR_RETURN(const JsonValue list, root.Get("matrices"));
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> elements, list.Elements());
  std::vector<FactoredMatrix> matrices;
  std::unordered_set<std::string> names;
  for (const JsonValue& element : elements) {
    absl::StatusOr<FactoredMatrix> matrix = ReadMatrix(element);
    if (!matrix.ok()) {
      // The path says matrices[17]; a reader looks for the name.
      const auto name = RequiredString(element, "name");
      if (!name.ok()) return matrix.status();
      return absl::InvalidArgumentError(
          absl::StrCat(matrix.status().message(), " (matrix ", absl::CHexEscape(*name), ")"));
    }
    if (!names.insert(matrix->name).second) {
      return element.Error(
          absl::StrCat("matrix ", absl::CHexEscape(matrix->name), " is listed twice"));
    }
    matrices.push_back(*std::move(matrix));
  }
  return matrices;
}

}  // namespace rankine
