#include "tools/synth/random_core.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/api/block_rows.h"
#include "kernels/base/math.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Root mean square of the weights that uniform E8P codewords stand for: of its 256 points of the
// half-integer lattice (mean squared norm 9.07), shifted by a quarter.
constexpr float kE8pStddev = 1.09f;

// Root mean square of uniform codes about their centre.
float CodeStddev(const Encoding& e) {
  if (e.kind == EncodingKind::kE8P) return kE8pStddev;
  double sum = 0;
  if (e.kind == EncodingKind::kNf4) {
    for (const float level : kNf4Levels) sum += level * level;
    return static_cast<float>(std::sqrt(sum / 16));
  }
  const double levels = 1 << e.bits;
  return static_cast<float>(std::sqrt((levels * levels - 1) / 12));
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
    } else if (e.kind == EncodingKind::kE8P) {
      RK_RETURN_IF_ERROR(AddE8p());
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

  RandomTensor& AddCodes(int64_t row_bits) {
    RandomTensor& codes =
        Add("codes", tensor_ + ".codes", DType::kU8, WithLast(shape_, CeilDiv(row_bits, 8)));
    codes.fill = RandomTensor::Fill::kBits;
    codes.row_bits = row_bits;
    return codes;
  }

  absl::Status AddE8p() {
    if (shape_.back() % 8 != 0) {
      return absl::InvalidArgumentError(absl::StrCat("matrix ", args_.matrix, ": core ", args_.name,
                                                     ": its rows of ", shape_.back(),
                                                     " are not whole e8p codewords of 8 weights"));
    }
    AddCodes(shape_.back() / 8 * 16);
    RandomTensor& scale = Add("scales", tensor_ + ".scales", DType::kF32, {1});
    scale.fill = RandomTensor::Fill::kScales;
    scale.amplitude = args_.stddev / kE8pStddev;
    return absl::OkStatus();
  }

  absl::Status AddBlocks() {
    const Encoding& e = args_.encoding;
    if (e.HasTwoLevelScales() || e.offset == OffsetKind::kTwoLevel) {
      return absl::UnimplementedError(absl::StrCat(
          "matrix ", args_.matrix, ": random cores with scales of two levels are not supported"));
    }
    AddCodes(shape_.back() * (e.kind == EncodingKind::kNf4 ? 4 : e.bits));
    const int64_t groups = CeilDiv(shape_.back(), e.GroupColumns(shape_.back()));
    const DType dtype = e.scale == ScaleKind::kF32 ? DType::kF32 : DType::kF16;
    // Signs are random, so that codes that are not symmetric about zero have no mean.
    RandomTensor scales = Add("scales", tensor_ + ".scales", dtype, WithLast(shape_, groups));
    scales.fill = RandomTensor::Fill::kScales;
    scales.amplitude = args_.stddev / CodeStddev(e);
    out_.tensors.back() = scales;
    if (!e.HasOffsets()) return absl::OkStatus();
    RandomTensor& offsets = Add("offsets", tensor_ + ".offsets", dtype, WithLast(shape_, groups));
    offsets.fill = RandomTensor::Fill::kScales;
    offsets.key = scales.key;
    offsets.amplitude = -scales.amplitude * static_cast<float>((1 << e.bits) - 1) / 2;
    return absl::OkStatus();
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
