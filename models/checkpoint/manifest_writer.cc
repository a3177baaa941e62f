#include <nlohmann/json.hpp>

#include "models/checkpoint/manifest.h"
#include "models/checkpoint/manifest_names.h"
#include "models/files/json_text.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

// What fits in this many columns stays on one line, so that a leg or a small core reads as one
// thing.
constexpr size_t kLineColumns = 100;

void Print(const Json& value, const std::string& indent, std::string* out) {
  const std::string line = DumpJson(value);
  if (!value.is_structured() || indent.size() + line.size() <= kLineColumns) {
    *out += line;
    return;
  }
  const bool is_object = value.is_object();
  *out += is_object ? "{" : "[";
  const std::string deeper = indent + " ";
  bool first = true;
  for (auto it = value.begin(); it != value.end(); ++it) {
    *out += first ? "\n" : ",\n";
    first = false;
    *out += deeper;
    if (is_object) *out += DumpJson(Json(it.key())) + ": ";
    Print(*it, deeper, out);
  }
  *out += "\n" + indent + (is_object ? "}" : "]");
}

Json WriteEncoding(const Core& core) {
  const Encoding& e = core.encoding;
  Json json = {{"kind", NameOf(e.kind, kEncodingKinds)}};
  if (e.kind == EncodingKind::kFloat) {
    json["dtype"] = NameOf(e.dtype, kFloatDTypes);
    return json;
  }
  if (e.kind == EncodingKind::kAffine) json["bits"] = e.bits;
  if (e.kind != EncodingKind::kE8P) json["group"] = e.group == 0 ? Json("row") : Json(e.group);
  json["group_leg"] = core.legs.empty() ? "" : core.legs.back().name;
  if (e.kind != EncodingKind::kE8P) json["scale"] = NameOf(e.scale, kScaleKinds);
  if (e.kind == EncodingKind::kAffine) json["offset"] = NameOf(e.offset, kOffsetKinds);
  return json;
}

Json WriteCore(const Core& core) {
  Json legs = Json::array();
  for (const LegRange& leg : core.legs) {
    Json json = {{"name", leg.name}};
    if (leg.offset != 0) json["offset"] = leg.offset;
    json["extent"] = leg.extent;
    if (leg.stored_extent != 0) json["stored_extent"] = leg.stored_extent;
    legs.push_back(std::move(json));
  }
  Json tensors = Json::object();
  for (const CoreTensor& tensor : core.tensors) tensors[tensor.role] = tensor.tensor;
  Json json = {{"name", core.name}, {"legs", std::move(legs)}};
  if (core.leading_identity) json["leading_identity"] = true;
  json["encoding"] = WriteEncoding(core);
  json["tensors"] = std::move(tensors);
  return json;
}

Json WriteOuterLegs(const std::vector<OuterLeg>& legs) {
  Json json = Json::array();
  for (const OuterLeg& leg : legs) json.push_back({{"name", leg.name}, {"extent", leg.extent}});
  return json;
}

Json WriteTransforms(const std::vector<Transform>& transforms) {
  Json json = Json::array();
  for (const Transform& t : transforms) {
    Json entry = {{"kind", NameOf(t.kind, kTransformKinds)}};
    entry[t.kind == Transform::Kind::kPermutation ? "indices" : "signs"] = t.tensor;
    if (!t.block_tensor.empty()) entry["block"] = t.block_tensor;
    if (t.transposed) entry["transposed"] = true;
    json.push_back(std::move(entry));
  }
  return json;
}

Json WriteProvenance(const Provenance& p) {
  Json json = Json::object();
  if (!p.method.empty()) json["method"] = p.method;
  if (p.keep != 0) json["keep"] = p.keep;
  if (!p.calibration.empty()) json["calibration"] = p.calibration;
  if (p.calibration_tokens != 0) json["calibration_tokens"] = p.calibration_tokens;
  if (p.relative_error >= 0) json["relative_error"] = p.relative_error;
  if (p.weighted_error >= 0) json["weighted_error"] = p.weighted_error;
  if (p.pivot_error >= 0) json["pivot_error"] = p.pivot_error;
  return json;
}

Json WriteMatrix(const FactoredMatrix& m) {
  Json json = {{"name", m.name}, {"out_features", m.out_features}, {"in_features", m.in_features}};
  json["output_legs"] = WriteOuterLegs(m.output_legs);
  json["input_legs"] = WriteOuterLegs(m.input_legs);
  Json terms = Json::array();
  for (const Term& term : m.terms) {
    Json cores = Json::array();
    for (const Core& core : term.cores) cores.push_back(WriteCore(core));
    terms.push_back({{"cores", std::move(cores)}});
  }
  json["terms"] = std::move(terms);
  if (!m.bias_tensor.empty()) json["bias"] = m.bias_tensor;
  if (!m.input_transforms.empty()) json["input_transforms"] = WriteTransforms(m.input_transforms);
  if (!m.output_transforms.empty()) {
    json["output_transforms"] = WriteTransforms(m.output_transforms);
  }
  if (!m.sorted_leg.empty()) json["sorted_leg"] = m.sorted_leg;
  Json provenance = WriteProvenance(m.provenance);
  if (!provenance.empty()) json["provenance"] = std::move(provenance);
  return json;
}

}  // namespace

std::string SerializeManifest(std::span<const FactoredMatrix> matrices) {
  Json list = Json::array();
  for (const FactoredMatrix& matrix : matrices) list.push_back(WriteMatrix(matrix));
  const Json root = {{"format_version", kManifestFormatVersion}, {"matrices", std::move(list)}};
  std::string out;
  Print(root, "", &out);
  return out + "\n";
}

}  // namespace rankine
