#include "tests/testing/block_testing.h"

#include <cmath>

#include "kernels/op_table.h"

namespace rankine {
namespace {

// A number that f16 holds exactly.
float HalfOf(float value) { return ToFloat(ToF16(value)); }

std::vector<float> Numbers(int64_t count, float size, ScaleKind kind, std::mt19937& rng) {
  std::uniform_real_distribution<float> unit(0.5f, 1.5f);
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    number = size * unit(rng);
    if (kind != ScaleKind::kF32) number = HalfOf(number);
  }
  return numbers;
}

std::vector<int8_t> SmallIntegers(int64_t count, int low, int high, std::mt19937& rng) {
  std::uniform_int_distribution<int> any(low, high);
  std::vector<int8_t> codes(count);
  for (int8_t& code : codes) code = static_cast<int8_t>(any(rng));
  return codes;
}

void AddOffsets(BlockRowsBuffer* rows, std::mt19937& rng) {
  const int64_t groups = rows->view().groups(), supers = rows->view().supers();
  if (rows->encoding.offset == OffsetKind::kTwoLevel) {
    rows->offsets = Numbers(rows->rows * supers, -2.0f / 32, ScaleKind::kF16, rng);
    rows->offset_codes = SmallIntegers(rows->rows * groups, 0, 63, rng);
  } else {
    rows->offsets = Numbers(rows->rows * groups, -2.0f, rows->encoding.scale, rng);
  }
}

}  // namespace

std::vector<Encoding> AllBlockEncodings() {
  std::vector<Encoding> all;
  for (uint8_t bits : {2, 3, 4, 5, 6, 8}) {
    for (int32_t group : {16, 32, 64, 128, 0}) {
      for (ScaleKind scale :
           {ScaleKind::kF16, ScaleKind::kF32, ScaleKind::kTwoLevel, ScaleKind::kTwoLevelI8}) {
        for (OffsetKind offset :
             {OffsetKind::kNone, OffsetKind::kPerGroup, OffsetKind::kTwoLevel}) {
          const Encoding encoding{.kind = EncodingKind::kAffine,
                                  .bits = bits,
                                  .group = group,
                                  .scale = scale,
                                  .offset = offset};
          if (encoding.HasTwoLevelScales() && group == 0) continue;
          if (offset == OffsetKind::kTwoLevel && !encoding.HasTwoLevelScales()) continue;
          all.push_back(encoding);
        }
      }
    }
  }
  for (int32_t group : {32, 64}) all.push_back({.kind = EncodingKind::kNf4, .group = group});
  all.push_back({.kind = EncodingKind::kE8P});
  return all;
}

std::string ToString(const Encoding& encoding) {
  const std::string kind = encoding.kind == EncodingKind::kNf4   ? "nf4"
                           : encoding.kind == EncodingKind::kE8P ? "e8p"
                                                                 : "affine";
  return kind + " bits " + std::to_string(encoding.bits) + " group " +
         std::to_string(encoding.group) + " scale " +
         std::to_string(static_cast<int>(encoding.scale)) + " offset " +
         std::to_string(static_cast<int>(encoding.offset));
}

BlockRowsBuffer RandomBlockRows(const Encoding& encoding, int64_t rows, int64_t cols,
                                std::mt19937& rng) {
  BlockRowsBuffer buffer{.encoding = encoding, .rows = rows, .cols = cols};
  const BlockRows shape{.encoding = encoding, .rows = rows, .cols = cols};
  if (encoding.kind == EncodingKind::kE8P) {
    buffer.codes.resize(rows * shape.code_bytes_per_row());
    for (uint8_t& byte : buffer.codes) byte = static_cast<uint8_t>(rng());
    buffer.scales = {0.7f};
    return buffer;
  }
  const int bits = encoding.kind == EncodingKind::kNf4 ? 4 : encoding.bits;
  std::uniform_int_distribution<int> any(0, (1 << bits) - 1);
  buffer.codes.resize(rows * cols);
  for (uint8_t& code : buffer.codes) code = static_cast<uint8_t>(any(rng));
  const float size =
      encoding.kind == EncodingKind::kNf4 ? 1.0f : 4.0f / static_cast<float>(1 << bits);
  if (encoding.HasTwoLevelScales()) {
    const bool is_signed = encoding.scale == ScaleKind::kTwoLevelI8;
    buffer.scales = Numbers(rows * shape.supers(), size / 32, ScaleKind::kF16, rng);
    buffer.scale_codes =
        SmallIntegers(rows * shape.groups(), is_signed ? -128 : 0, is_signed ? 127 : 63, rng);
  } else {
    buffer.scales = Numbers(rows * shape.groups(), size, encoding.scale, rng);
  }
  if (encoding.HasOffsets()) AddOffsets(&buffer, rng);
  return buffer;
}

TestBlockCore::TestBlockCore(const BlockRowsBuffer& rows)
    : storage(PackedBytes(rows.encoding, rows.rows, rows.cols) + 64) {
  const auto address = reinterpret_cast<uintptr_t>(storage.data());
  core = {.data = storage.data() + (64 - address % 64) % 64,
          .dtype = DType::kU8,
          .encoding = rows.encoding,
          .n = rows.rows,
          .k = rows.cols,
          .block_stride = PackedBlockBytes(rows.encoding, rows.cols)};
  RefOps().pack_blocks({.source = rows.view(), .core = core});
}

}  // namespace rankine
