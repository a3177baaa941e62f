#include "tools/synth/random_core.h"

#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "kernels/api/block_rows.h"
#include "kernels/base/math.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Root mean square of the weights that uniform E8P codewords stand for: of its 256 points of the
// half-integer lattice (mean squared norm 9.07), shifted by a quarter.
constexpr float kE8pStddev = 1.09f;

// f16 offsets beside scales of two levels.
bool OffsetsStandApart(const Encoding& e) {
  return e.offset == OffsetKind::kPerGroup && e.HasTwoLevelScales();
}

// Root mean square of uniform codes about where their offset puts zero.
float CodeStddev(const Encoding& e) {
  if (e.kind == EncodingKind::kE8P) return kE8pStddev;
  double sum = 0;
  if (e.kind == EncodingKind::kNf4) {
    for (const float level : kNf4Levels) sum += level * level;
    return static_cast<float>(std::sqrt(sum / 16));
  }
  const double levels = 1 << e.bits;
  // Offsets that are not made of the scales (see Fill) leave the codes where they are: from 0 up.
  const double mean = OffsetsStandApart(e) ? (levels - 1) / 2 : 0;
  return static_cast<float>(std::sqrt((levels * levels - 1) / 12 + mean * mean));
}

// The same of the codes of two-level scales: 6 bits, or 8 bits with a sign. 1 where there are none.
float ScaleCodeStddev(const Encoding& e) {
  switch (e.scale) {
    case ScaleKind::kTwoLevel:
      return 36.6f;
    case ScaleKind::kTwoLevelI8:
      return 73.9f;
    default:
      return 1;
  }
}

std::vector<int64_t> WithLast(std::vector<int64_t> shape, int64_t last) {
  shape.back() = last;
  return shape;
}

class CoreMaker {
 public:
  explicit CoreMaker(const RandomCoreArgs& args)
      : args_(args), tensor_(absl::StrCat(args.matrix, ".", args.name)) {
    for (const LegRange& leg : args.legs) shape_.push_back(leg.extent);
    out_.core = {.name = args.name, .legs = args.legs, .encoding = args.encoding};
  }

  absl::StatusOr<RandomCore> Make() && {
    const Encoding& e = args_.encoding;
    if (e.IsFloat()) {
      AddValues();
    } else {
      RK_RETURN_IF_ERROR(AddBlocks());
    }
    return std::move(out_);
  }

 private:
  RandomTensor& Add(const char* role, const std::string& name, DType dtype,
                    std::vector<int64_t> shape) {
    out_.core.tensors.push_back({role, name});
    out_.tensors.push_back(
        {.spec = {name, dtype, std::move(shape)}, .key = RandomKey(args_.seed, name)});
    return out_.tensors.back();
  }

  void AddValues() {
    RandomTensor& values = Add("values", tensor_, args_.encoding.dtype, shape_);
    // A uniform number of unit variance reaches sqrt(3).
    values.amplitude = args_.stddev * std::sqrt(3.0f);
  }

  absl::Status AddBlocks() {
    const Encoding& e = args_.encoding;
    if (e.kind == EncodingKind::kE8P && shape_.back() % 8 != 0) {
      return absl::InvalidArgumentError(absl::StrCat("matrix ", args_.matrix, ": core ", args_.name,
                                                     ": its rows of ", shape_.back(),
                                                     " are not whole e8p codewords of 8 weights"));
    }
    for (const BlockRole& role : BlockRoles(e, shape_.back())) {
      const std::string name = absl::StrCat(tensor_, ".", role.role);
      RandomTensor& tensor =
          Add(role.role, name, role.dtype,
              role.row_values == 0 ? std::vector<int64_t>{1} : WithLast(shape_, role.row_values));
      Fill(role, &tensor);
    }
    return absl::OkStatus();
  }

  // Signs of scales are random, so that codes that are not symmetric about zero have no mean.
  // Offsets are made of the numbers of the scales, so that they centre the codes of their group.
  void Fill(const BlockRole& role, RandomTensor* tensor) const {
    const Encoding& e = args_.encoding;
    const std::string_view name = role.role;
    const bool is_offset = name == "offsets" || name == "super_offsets";
    const bool centres = is_offset && !OffsetsStandApart(e);
    if (centres) {
      const char* partner = name == "offsets" ? ".scales" : ".super_scales";
      tensor->key = RandomKey(args_.seed, tensor_ + partner);
    }
    if (role.dtype == DType::kU8 || role.dtype == DType::kI8) {
      tensor->fill = RandomTensor::Fill::kBits;
      tensor->row_bits = UsedBits(role);
      return;
    }
    const float centre = static_cast<float>((1 << e.bits) - 1) / 2;
    float scale = args_.stddev / CodeStddev(e);
    if (centres || !is_offset) scale /= ScaleCodeStddev(e);
    tensor->fill = RandomTensor::Fill::kScales;
    tensor->amplitude = !is_offset ? scale : centres ? -scale * centre : args_.stddev / 4;
  }

  // Of a row of codes, or of codes of scales and offsets.
  int64_t UsedBits(const BlockRole& role) const {
    const Encoding& e = args_.encoding;
    const int64_t cols = shape_.back();
    if (role.dtype == DType::kI8) return 0;
    if (std::string_view(role.role) != "codes") return CeilDiv(cols, e.GroupColumns(cols)) * 6;
    if (e.kind == EncodingKind::kE8P) return cols * 2;
    return cols * (e.kind == EncodingKind::kNf4 ? 4 : e.bits);
  }

  const RandomCoreArgs& args_;
  std::string tensor_;
  std::vector<int64_t> shape_;
  RandomCore out_;
};

}  // namespace

absl::StatusOr<RandomCore> MakeRandomCore(const RandomCoreArgs& args) {
  return CoreMaker(args).Make();
}

}  // namespace rankine
