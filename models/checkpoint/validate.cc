#include "models/checkpoint/validate.h"

#include <algorithm>
#include <bit>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/math.h"
#include "models/checkpoint/manifest_names.h"
#include "models/checkpoint/safetensors.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Weights of one E8P codeword of two bytes.
constexpr int64_t kE8PWeights = 8;

using Shape = std::vector<int64_t>;

struct RoleSpec {
  const char* role;
  std::vector<std::string> dtypes;  // any of them
  Shape shape;
};

Shape WithLast(Shape shape, int64_t last) {
  shape.back() = last;
  return shape;
}

class StorageChecker {
 public:
  StorageChecker(const FactoredMatrix& matrix, const TensorLookup& lookup)
      : matrix_(matrix), lookup_(lookup) {}

  absl::Status Check() const {
    for (const Term& term : matrix_.terms) {
      for (const Core& core : term.cores) RK_RETURN_IF_ERROR(CheckCore(core));
    }
    if (!matrix_.bias_tensor.empty()) {
      RK_RETURN_IF_ERROR(CheckTensor("bias", {"", {"F32", "F16", "BF16"}, {matrix_.out_features}},
                                     matrix_.bias_tensor));
    }
    RK_RETURN_IF_ERROR(
        CheckTransforms("input_transforms", matrix_.input_transforms, matrix_.in_features));
    return CheckTransforms("output_transforms", matrix_.output_transforms, matrix_.out_features);
  }

 private:
  absl::Status Error(const std::string& place, const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("matrix ", absl::CHexEscape(matrix_.name), ": ", place, ": ", what));
  }

  absl::Status CheckTensor(const std::string& place, const RoleSpec& spec,
                           const std::string& name) const {
    const TensorInfo* tensor = lookup_(name);
    if (tensor == nullptr) {
      return Error(place, absl::StrCat("tensor ", absl::CHexEscape(name), " is missing"));
    }
    if (std::find(spec.dtypes.begin(), spec.dtypes.end(), tensor->stored_type) ==
        spec.dtypes.end()) {
      return Error(place,
                   absl::StrCat("tensor ", absl::CHexEscape(name), " is ", tensor->stored_type,
                                ", expected ", absl::StrJoin(spec.dtypes, " or ")));
    }
    if (tensor->shape != spec.shape) {
      return Error(place, absl::StrCat("tensor ", absl::CHexEscape(name), " has shape [",
                                       absl::StrJoin(tensor->shape, ", "), "], expected [",
                                       absl::StrJoin(spec.shape, ", "), "]"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckCore(const Core& core) const {
    const std::string place = absl::StrCat("core \"", absl::CHexEscape(core.name), "\"");
    RK_RETURN_IF_ERROR(CheckEncoding(core, place));
    const std::vector<RoleSpec> specs = RolesOf(core);
    std::set<std::string> seen;
    for (const CoreTensor& tensor : core.tensors) {
      const auto spec = std::find_if(specs.begin(), specs.end(),
                                     [&](const RoleSpec& s) { return s.role == tensor.role; });
      if (spec == specs.end() || !seen.insert(tensor.role).second) {
        return Error(place, absl::StrCat("the role \"", absl::CHexEscape(tensor.role),
                                         "\" does not belong to its encoding, or is there twice"));
      }
      RK_RETURN_IF_ERROR(CheckTensor(place, *spec, tensor.tensor));
    }
    for (const RoleSpec& spec : specs) {
      if (!seen.contains(spec.role)) {
        return Error(place,
                     absl::StrCat("its encoding needs a tensor for the role \"", spec.role, "\""));
      }
    }
    return absl::OkStatus();
  }

  // What the encoding itself and the range along its groups must fulfil.
  absl::Status CheckEncoding(const Core& core, const std::string& place) const {
    const Encoding& e = core.encoding;
    if (e.IsFloat()) {
      const bool known =
          e.dtype == DType::kF32 || e.dtype == DType::kF16 || e.dtype == DType::kBF16;
      return known ? absl::OkStatus() : Error(place, "a float encoding is f32, f16 or bf16");
    }
    if (e.kind == EncodingKind::kAffine &&
        std::find(std::begin(kCodeBits), std::end(kCodeBits), e.bits) == std::end(kCodeBits)) {
      return Error(place, absl::StrCat(int{e.bits}, " bits are unknown; known: 2, 3, 4, 5, 6, 8"));
    }
    if (e.group != 0 && std::find(std::begin(kGroupSizes), std::end(kGroupSizes), e.group) ==
                            std::end(kGroupSizes)) {
      return Error(place,
                   absl::StrCat("group ", e.group, " is unknown; known: 16, 32, 64, 128, row"));
    }
    const bool two_level = e.kind != EncodingKind::kE8P && e.HasTwoLevelScales();
    if (two_level && e.group == 0) {
      return Error(place, "two-level scales and offsets need groups smaller than a row");
    }
    if (e.HasOffsets() && e.offset == OffsetKind::kTwoLevel && !two_level) {
      return Error(place, "two-level offsets need two-level scales");
    }
    const LegRange& last = core.legs.back();
    const int64_t stored = last.stored_extent != 0 ? last.stored_extent : last.extent;
    if (e.kind == EncodingKind::kE8P &&
        (stored % kE8PWeights != 0 || last.offset % kE8PWeights != 0)) {
      return Error(place, absl::StrCat("leg \"", absl::CHexEscape(last.name),
                                       "\" is not whole E8P codewords of 8 weights"));
    }
    const int64_t unit = two_level ? kSuperBlockColumns : e.group;
    if (last.offset != 0 && unit != 0 && last.offset % unit != 0) {
      return Error(place, absl::StrCat("leg \"", absl::CHexEscape(last.name), "\": the offset ",
                                       last.offset, " is not a multiple of ", unit));
    }
    return absl::OkStatus();
  }

  static std::vector<RoleSpec> RolesOf(const Core& core) {
    const Encoding& e = core.encoding;
    const Shape shape = core.StoredShape();
    if (e.IsFloat()) return {{"values", {SafetensorsDTypeName(e.dtype)}, shape}};
    std::vector<RoleSpec> roles;
    for (const BlockRole& role : BlockRoles(e, shape.back())) {
      roles.push_back({role.role,
                       {SafetensorsDTypeName(role.dtype)},
                       role.row_values == 0 ? Shape{1} : WithLast(shape, role.row_values)});
    }
    return roles;
  }

  absl::Status CheckTransforms(const char* place, const std::vector<Transform>& transforms,
                               int64_t features) const {
    for (const Transform& transform : transforms) {
      if (transform.kind == Transform::Kind::kPermutation) {
        RK_RETURN_IF_ERROR(CheckTensor(place, {"", {"I32"}, {features}}, transform.tensor));
        continue;
      }
      RK_RETURN_IF_ERROR(
          CheckTensor(place, {"", {"I8", "F32", "F16", "BF16"}, {features}}, transform.tensor));
      RK_RETURN_IF_ERROR(CheckBlock(place, transform, features));
    }
    return absl::OkStatus();
  }

  // features = 2^p x b, with a block of [b, b] unless b is 1.
  absl::Status CheckBlock(const char* place, const Transform& transform, int64_t features) const {
    if (transform.block_tensor.empty()) {
      if (std::has_single_bit(static_cast<uint64_t>(features))) return absl::OkStatus();
      return Error(place, absl::StrCat("a Hadamard transform of ", features,
                                       " features, not a power of two, needs a block"));
    }
    const TensorInfo* block = lookup_(transform.block_tensor);
    if (block == nullptr) {
      return Error(
          place, absl::StrCat("tensor ", absl::CHexEscape(transform.block_tensor), " is missing"));
    }
    const int64_t b = block->shape.empty() ? 0 : block->shape[0];
    if (b < 1 || features % b != 0 || !std::has_single_bit(static_cast<uint64_t>(features / b))) {
      return Error(
          place, absl::StrCat("the block ", absl::CHexEscape(transform.block_tensor), " has ", b,
                              " rows; ", features, " features must be that times a power of two"));
    }
    return CheckTensor(place, {"", {"F32", "F16", "BF16"}, {b, b}}, transform.block_tensor);
  }

  const FactoredMatrix& matrix_;
  const TensorLookup& lookup_;
};

}  // namespace

absl::Status ValidateMatrix(const FactoredMatrix& matrix, const TensorLookup& lookup) {
  RK_RETURN_IF_ERROR(ValidateNetwork(matrix));
  return StorageChecker(matrix, lookup).Check();
}

}  // namespace rankine
