// One valid FactoredMatrix of each form that factorization.json can say, and the tensors that each
// needs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine::testing {

inline Core MakeCore(std::string name, std::vector<LegRange> legs, const std::string& tensor,
                     Encoding encoding = {}) {
  std::vector<CoreTensor> tensors;
  const auto add = [&](const char* role) { tensors.push_back({role, tensor + "." + role}); };
  if (encoding.IsFloat()) {
    add("values");
  } else {
    add("codes");
    add("scales");
    if (encoding.kind != EncodingKind::kE8P && encoding.HasTwoLevelScales()) add("super_scales");
    if (encoding.offset != OffsetKind::kNone) add("offsets");
    if (encoding.offset == OffsetKind::kTwoLevel) add("super_offsets");
  }
  return Core{std::move(name), std::move(legs), encoding, std::move(tensors)};
}

inline FactoredMatrix MakeMatrix(std::string name, std::vector<OuterLeg> out,
                                 std::vector<OuterLeg> in, std::vector<Term> terms) {
  FactoredMatrix m{.name = std::move(name)};
  m.out_features = m.in_features = 1;
  for (const OuterLeg& leg : out) m.out_features *= leg.extent;
  for (const OuterLeg& leg : in) m.in_features *= leg.extent;
  m.output_legs = std::move(out);
  m.input_legs = std::move(in);
  m.terms = std::move(terms);
  return m;
}

inline constexpr Encoding kAffine4{
    .kind = EncodingKind::kAffine, .bits = 4, .group = 64, .offset = OffsetKind::kPerGroup};

inline FactoredMatrix TuckerMatrix() {
  return MakeMatrix("tucker", {{"o", 8}}, {{"i", 6}},
                    {Term{{MakeCore("A", {{"o", 0, 8}, {"a", 0, 3}}, "t.A"),
                           MakeCore("G", {{"a", 0, 3}, {"b", 0, 2}}, "t.G"),
                           MakeCore("B", {{"b", 0, 2}, {"i", 0, 6}}, "t.B")}}});
}

// A d-way Tucker form whose core G stacks q, k, v along a; this matrix takes [4, 7) of 12.
inline FactoredMatrix SharedTuckerMatrix() {
  return MakeMatrix("shared", {{"o1", 4}, {"o2", 5}}, {{"i", 6}},
                    {Term{{MakeCore("A", {{"o1", 0, 4}, {"a", 0, 3}}, "s.A"),
                           MakeCore("B", {{"o2", 0, 5}, {"b", 0, 2}}, "s.B"),
                           MakeCore("C", {{"i", 0, 6}, {"c", 0, 2}}, "s.C"),
                           MakeCore("G", {{"a", 4, 3, 12}, {"b", 0, 2}, {"c", 0, 2}}, "s.G")}}});
}

inline FactoredMatrix PivotedMatrix() {
  FactoredMatrix m = MakeMatrix("pivoted", {{"o", 8}}, {{"i", 6}},
                                {Term{{MakeCore("C", {{"o", 0, 8}, {"r", 0, 3}}, "v.C"),
                                       MakeCore("P", {{"r", 0, 3}, {"i", 0, 6}}, "v.P")}}});
  m.terms[0].cores[0].leading_identity = true;
  m.output_transforms = {{Transform::Kind::kPermutation, "v.rows", ""}};
  m.provenance.pivot_error = 0.0078125;
  return m;
}

inline FactoredMatrix MpoMatrix() {
  return MakeMatrix(
      "mpo", {{"o1", 2}, {"o2", 3}, {"o3", 2}}, {{"i1", 2}, {"i2", 2}, {"i3", 3}},
      {Term{{MakeCore("C1", {{"o1", 0, 2}, {"i1", 0, 2}, {"x", 0, 3}}, "p.1"),
             MakeCore("C2", {{"x", 0, 3}, {"o2", 0, 3}, {"i2", 0, 2}, {"y", 0, 5}}, "p.2"),
             MakeCore("C3", {{"y", 0, 5}, {"o3", 0, 2}, {"i3", 0, 3}}, "p.3")}}});
}

inline FactoredMatrix QlrMatrix() {
  FactoredMatrix m =
      MakeMatrix("qlr", {{"o", 192}}, {{"i", 256}},
                 {Term{{MakeCore("Q", {{"o", 0, 192}, {"i", 0, 256}}, "q.Q", kAffine4)}},
                  Term{{MakeCore("L", {{"o", 0, 192}, {"r", 0, 32}}, "q.L"),
                        MakeCore("R", {{"r", 0, 32}, {"i", 0, 256}}, "q.R")}}});
  m.bias_tensor = "q.bias";
  m.input_transforms = {{Transform::Kind::kHadamard, "q.in_signs", ""}};
  m.output_transforms = {{Transform::Kind::kPermutation, "q.perm", ""},
                         {Transform::Kind::kHadamard, "q.out_signs", "q.out_block", true}};
  return m;
}

inline FactoredMatrix SvdSample() {
  FactoredMatrix m = SvdMatrix("svd", 12, 8, 5, Encoding::Float(DType::kF16), "svd.bias");
  m.provenance = {"svd-llm", 0.8, "sha256:1f", 24576, 0.25, 0.0625};
  return m;
}

inline FactoredMatrix BlockMatrix(const std::string& name, Encoding encoding) {
  return MakeMatrix(name, {{"o", 4}}, {{"i", 512}},
                    {Term{{MakeCore("W", {{"o", 0, 4}, {"i", 0, 512}}, name, encoding)}}});
}

inline std::vector<FactoredMatrix> SampleMatrices() {
  return {
      DenseMatrix("dense", 4, 6, Encoding::Float(DType::kBF16), "dense.weight"),
      SvdSample(),
      TuckerMatrix(),
      SharedTuckerMatrix(),
      PivotedMatrix(),
      MpoMatrix(),
      QlrMatrix(),
      BlockMatrix(
          "affine3",
          {.kind = EncodingKind::kAffine, .bits = 3, .group = 128, .scale = ScaleKind::kF32}),
      BlockMatrix("affine_row", {.kind = EncodingKind::kAffine, .bits = 8, .group = 0}),
      BlockMatrix("two_level", {.kind = EncodingKind::kAffine,
                                .bits = 4,
                                .group = 32,
                                .scale = ScaleKind::kTwoLevel,
                                .offset = OffsetKind::kTwoLevel}),
      BlockMatrix(
          "two_level_i8",
          {.kind = EncodingKind::kAffine, .bits = 6, .group = 16, .scale = ScaleKind::kTwoLevelI8}),
      BlockMatrix("nf4", {.kind = EncodingKind::kNf4, .group = 64}),
      BlockMatrix("e8p", {.kind = EncodingKind::kE8P, .scale = ScaleKind::kF32})};
}

// The stored type and shape of every tensor of the samples, written out by hand.
inline std::map<std::string, TensorInfo> SampleTensors() {
  std::map<std::string, TensorInfo> tensors;
  const auto add = [&](const char* name, const char* type, std::vector<int64_t> shape) {
    tensors[name] = TensorInfo{.name = name, .stored_type = type, .shape = std::move(shape)};
  };
  add("dense.weight", "BF16", {4, 6});
  add("svd.U", "F16", {12, 5});
  add("svd.S", "F32", {5});
  add("svd.V", "F16", {5, 8});
  add("svd.bias", "F32", {12});
  add("t.A.values", "F32", {8, 3});
  add("t.G.values", "F32", {3, 2});
  add("t.B.values", "F32", {2, 6});
  add("v.C.values", "F32", {5, 3});
  add("v.P.values", "F32", {3, 6});
  add("v.rows", "I32", {8});
  add("s.A.values", "F32", {4, 3});
  add("s.B.values", "F32", {5, 2});
  add("s.C.values", "F32", {6, 2});
  add("s.G.values", "F32", {12, 2, 2});
  add("p.1.values", "F32", {2, 2, 3});
  add("p.2.values", "F32", {3, 3, 2, 5});
  add("p.3.values", "F32", {5, 2, 3});
  add("q.Q.codes", "U8", {192, 128});
  add("q.Q.scales", "F16", {192, 4});
  add("q.Q.offsets", "F16", {192, 4});
  add("q.L.values", "F32", {192, 32});
  add("q.R.values", "F32", {32, 256});
  add("q.bias", "BF16", {192});
  add("q.in_signs", "I8", {256});
  add("q.perm", "I32", {192});
  add("q.out_signs", "F32", {192});
  add("q.out_block", "F32", {12, 12});
  add("affine3.codes", "U8", {4, 192});
  add("affine3.scales", "F32", {4, 4});
  add("affine_row.codes", "U8", {4, 512});
  add("affine_row.scales", "F16", {4, 1});
  add("two_level.codes", "U8", {4, 256});
  add("two_level.scales", "U8", {4, 12});
  add("two_level.super_scales", "F16", {4, 2});
  add("two_level.offsets", "U8", {4, 12});
  add("two_level.super_offsets", "F16", {4, 2});
  add("two_level_i8.codes", "U8", {4, 384});
  add("two_level_i8.scales", "I8", {4, 32});
  add("two_level_i8.super_scales", "F16", {4, 2});
  add("nf4.codes", "U8", {4, 256});
  add("nf4.scales", "F16", {4, 8});
  add("e8p.codes", "U8", {4, 128});
  add("e8p.scales", "F32", {1});
  return tensors;
}

}  // namespace rankine::testing
