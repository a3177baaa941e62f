// The words of factorization.json version 1 and what they stand for, shared by its reader and its
// writer.
#pragma once

#include "kernels/base/encoding.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

template <class Enum>
struct NamedValue {
  const char* name;
  Enum value;
};

inline constexpr NamedValue<EncodingKind> kEncodingKinds[] = {{"float", EncodingKind::kFloat},
                                                              {"affine", EncodingKind::kAffine},
                                                              {"nf4", EncodingKind::kNf4},
                                                              {"e8p", EncodingKind::kE8P}};
inline constexpr NamedValue<DType> kFloatDTypes[] = {
    {"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}};
inline constexpr NamedValue<ScaleKind> kScaleKinds[] = {{"f16", ScaleKind::kF16},
                                                        {"f32", ScaleKind::kF32},
                                                        {"two_level", ScaleKind::kTwoLevel},
                                                        {"two_level_i8", ScaleKind::kTwoLevelI8}};
inline constexpr NamedValue<OffsetKind> kOffsetKinds[] = {{"none", OffsetKind::kNone},
                                                          {"per_group", OffsetKind::kPerGroup},
                                                          {"two_level", OffsetKind::kTwoLevel}};
inline constexpr NamedValue<Transform::Kind> kTransformKinds[] = {
    {"permutation", Transform::Kind::kPermutation}, {"hadamard", Transform::Kind::kHadamard}};

inline constexpr const char* kRoles[] = {"values",  "codes",        "scales",
                                         "offsets", "super_scales", "super_offsets"};
inline constexpr int kCodeBits[] = {2, 3, 4, 5, 6, 8};
inline constexpr int kGroupSizes[] = {16, 32, 64, 128};

template <class Enum, size_t kSize>
const char* NameOf(Enum value, const NamedValue<Enum> (&table)[kSize]) {
  for (const NamedValue<Enum>& entry : table) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

}  // namespace rankine
