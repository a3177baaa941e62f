#include "models/encode/block_storage.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/encode/bit_packing.h"

namespace rankine {
namespace {

// The bits of two-level scales and offsets.
constexpr int kScaleCodeBits = 6;
// Times any code (below 256 in magnitude, and two-level codes below 128 before it) plus an offset
// under the same bound, the result is finite.
constexpr float kMaxNumber = 1e32f;

bool IsRole(const BlockRole& role, const char* name) { return std::string_view(role.role) == name; }

int CodeBits(const Encoding& encoding) {
  return encoding.kind == EncodingKind::kNf4 ? 4 : encoding.bits;
}

template <class T>
void StoreNumbers(const float* in, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const T value = FromFloat<T>(in[i]);
    RK_CHECK(ToFloat(value) == in[i]);
    std::memcpy(out + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
}

// Each row of `values` 6-bit codes begins at a byte.
void PackRows(const uint8_t* codes, int64_t rows, int64_t values, int bits, uint8_t* out) {
  for (int64_t r = 0; r < rows; ++r) {
    PackCodes(codes + r * values, values, bits, out + r * PackedCodeBytes(values, bits));
  }
}

void UnpackRows(const uint8_t* packed, int64_t rows, int64_t values, int bits, uint8_t* codes) {
  for (int64_t r = 0; r < rows; ++r) {
    UnpackCodes(packed + r * PackedCodeBytes(values, bits), values, bits, codes + r * values);
  }
}

absl::Status CheckNumbers(const char* role, const float* numbers, int64_t rows, int64_t per_row,
                          int64_t first_row) {
  bool good = true;
  // Not std::abs(x) > limit: NaN must fail too.
  for (int64_t i = 0; i < rows * per_row; ++i) good &= std::abs(numbers[i]) <= kMaxNumber;
  if (good) return absl::OkStatus();
  for (int64_t i = 0; i < rows * per_row; ++i) {
    if (std::abs(numbers[i]) <= kMaxNumber) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the value ", numbers[i], " of role ", role, " at row ", first_row + i / per_row,
        ", group ", i % per_row, std::isfinite(numbers[i]) ? " is too large" : " is not finite"));
  }
  return absl::OkStatus();
}

// Where the role's numbers are in a buffer: floats, or integers of a second level.
struct RolePlace {
  std::vector<float> BlockRowsBuffer::*floats = nullptr;
  std::vector<int8_t> BlockRowsBuffer::*integers = nullptr;
};

RolePlace PlaceOf(const BlockRole& role) {
  const bool integers = role.dtype == DType::kU8 || role.dtype == DType::kI8;
  if (IsRole(role, "scales")) {
    if (integers) return {.integers = &BlockRowsBuffer::scale_codes};
    return {.floats = &BlockRowsBuffer::scales};
  }
  if (IsRole(role, "offsets")) {
    if (integers) return {.integers = &BlockRowsBuffer::offset_codes};
    return {.floats = &BlockRowsBuffer::offsets};
  }
  if (IsRole(role, "super_scales")) return {.floats = &BlockRowsBuffer::scales};
  RK_CHECK(IsRole(role, "super_offsets"));
  return {.floats = &BlockRowsBuffer::offsets};
}

}  // namespace

std::vector<BlockRole> BlockRoles(const Encoding& e, int64_t cols) {
  RK_CHECK(!e.IsFloat());
  if (e.kind == EncodingKind::kE8P) {
    return {{"codes", DType::kU8, cols / 4}, {"scales", DType::kF32, 0}};
  }
  const int64_t groups = CeilDiv(cols, e.GroupColumns(cols));
  const int64_t supers = CeilDiv(cols, kSuperBlockColumns);
  const int64_t packed = PackedCodeBytes(groups, kScaleCodeBits);
  const DType number = e.scale == ScaleKind::kF32 ? DType::kF32 : DType::kF16;
  std::vector<BlockRole> roles = {{"codes", DType::kU8, PackedCodeBytes(cols, CodeBits(e))}};
  if (e.scale == ScaleKind::kTwoLevel) {
    roles.push_back({"scales", DType::kU8, packed});
  } else if (e.scale == ScaleKind::kTwoLevelI8) {
    roles.push_back({"scales", DType::kI8, groups});
  } else {
    roles.push_back({"scales", number, groups});
  }
  if (e.HasTwoLevelScales()) roles.push_back({"super_scales", DType::kF16, supers});
  if (!e.HasOffsets()) return roles;
  if (e.offset == OffsetKind::kTwoLevel) {
    roles.push_back({"offsets", DType::kU8, packed});
    roles.push_back({"super_offsets", DType::kF16, supers});
  } else {
    roles.push_back({"offsets", number, groups});
  }
  return roles;
}

int64_t StoredBytes(const Encoding& encoding, int64_t rows, int64_t cols) {
  if (encoding.IsFloat()) return rows * cols * static_cast<int64_t>(SizeOf(encoding.dtype));
  int64_t total = 0;
  for (const BlockRole& role : BlockRoles(encoding, cols)) {
    total +=
        role.row_values == 0 ? static_cast<int64_t>(SizeOf(role.dtype)) : rows * role.row_bytes();
  }
  return total;
}

void ResizeBlockRows(const Encoding& encoding, int64_t rows, int64_t cols,
                     BlockRowsBuffer* buffer) {
  buffer->encoding = encoding;
  buffer->rows = rows;
  buffer->cols = cols;
  const BlockRows view = {.encoding = encoding, .rows = rows, .cols = cols};
  const bool e8p = encoding.kind == EncodingKind::kE8P;
  const auto size = [&](bool present, int64_t count) {
    return static_cast<size_t>(present ? count : 0);
  };
  const int64_t groups = rows * view.groups(), supers = rows * view.supers();
  const bool two_level_scales = !e8p && encoding.HasTwoLevelScales();
  const bool two_level_offsets = encoding.HasOffsets() && encoding.offset == OffsetKind::kTwoLevel;
  buffer->codes.resize(size(true, rows * view.code_bytes_per_row()));
  buffer->scales.resize(size(true, e8p ? 1 : two_level_scales ? supers : groups));
  buffer->scale_codes.resize(size(two_level_scales, groups));
  buffer->offsets.resize(size(encoding.HasOffsets(), two_level_offsets ? supers : groups));
  buffer->offset_codes.resize(size(two_level_offsets, groups));
}

std::vector<uint8_t> StoreRole(const BlockRows& rows, const BlockRole& role) {
  const int64_t count = role.row_values == 0 ? 1 : rows.rows * role.row_values;
  std::vector<uint8_t> out(static_cast<size_t>(count * static_cast<int64_t>(SizeOf(role.dtype))));
  if (IsRole(role, "codes")) {
    if (rows.encoding.kind == EncodingKind::kE8P) {
      std::memcpy(out.data(), rows.codes, out.size());
    } else {
      PackRows(rows.codes, rows.rows, rows.cols, CodeBits(rows.encoding), out.data());
    }
    return out;
  }
  const bool is_scale = IsRole(role, "scales") || IsRole(role, "super_scales");
  const int8_t* integers = is_scale ? rows.scale_codes : rows.offset_codes;
  const float* numbers = is_scale ? rows.scales : rows.offsets;
  switch (role.dtype) {
    case DType::kU8:
      PackRows(reinterpret_cast<const uint8_t*>(integers), rows.rows, rows.groups(), kScaleCodeBits,
               out.data());
      break;
    case DType::kI8:
      std::memcpy(out.data(), integers, out.size());
      break;
    case DType::kF16:
      StoreNumbers<F16>(numbers, count, out.data());
      break;
    default:
      StoreNumbers<float>(numbers, count, out.data());
  }
  return out;
}

absl::Status LoadRole(const uint8_t* stored, const BlockRole& role, int64_t first_row,
                      BlockRowsBuffer* buffer) {
  const int64_t rows = buffer->rows, cols = buffer->cols;
  if (IsRole(role, "codes")) {
    if (buffer->encoding.kind == EncodingKind::kE8P) {
      std::memcpy(buffer->codes.data(), stored, buffer->codes.size());
    } else {
      UnpackRows(stored, rows, cols, CodeBits(buffer->encoding), buffer->codes.data());
    }
    return absl::OkStatus();
  }
  const RolePlace place = PlaceOf(role);
  if (place.integers != nullptr) {
    std::vector<int8_t>& out = buffer->*place.integers;
    if (role.dtype == DType::kI8) {
      std::memcpy(out.data(), stored, out.size());
    } else {
      UnpackRows(stored, rows, buffer->view().groups(), kScaleCodeBits,
                 reinterpret_cast<uint8_t*>(out.data()));
    }
    return absl::OkStatus();
  }
  std::vector<float>& numbers = buffer->*place.floats;
  const int64_t count = static_cast<int64_t>(numbers.size());
  float* out = numbers.data();
  for (int64_t i = 0; i < count; ++i) {
    if (role.dtype == DType::kF16) {
      F16 half;
      std::memcpy(&half, stored + 2 * i, 2);
      out[i] = ToFloat(half);
    } else {
      std::memcpy(out + i, stored + 4 * i, 4);
    }
  }
  const int64_t per_row = std::max<int64_t>(1, role.row_values);
  return CheckNumbers(role.role, out, count / per_row, per_row, first_row);
}

absl::Status CheckBlockNumbers(const BlockRowsBuffer& buffer, int64_t first_row) {
  for (const BlockRole& role : BlockRoles(buffer.encoding, buffer.cols)) {
    if (IsRole(role, "codes")) continue;
    const RolePlace place = PlaceOf(role);
    if (place.floats == nullptr) continue;
    const int64_t per_row = std::max<int64_t>(1, role.row_values);
    const std::vector<float>& numbers = buffer.*place.floats;
    const int64_t rows = static_cast<int64_t>(numbers.size()) / per_row;
    absl::Status status = CheckNumbers(role.role, numbers.data(), rows, per_row, first_row);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace rankine
