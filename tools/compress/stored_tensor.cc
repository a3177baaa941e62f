#include "tools/compress/stored_tensor.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/float_convert.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Rounds each value by `convert` and appends it. False when one does not fit.
template <class T, class Convert>
bool Append(absl::Span<const double> values, const Convert& convert, std::string* bytes) {
  bytes->reserve(values.size() * sizeof(T));
  for (const double v : values) {
    const T stored = convert(v);
    if constexpr (std::is_integral_v<T>) {
      if (static_cast<double>(stored) != v) return false;
    } else if (!std::isfinite(ToFloat(stored))) {
      return false;
    }
    bytes->append(reinterpret_cast<const char*>(&stored), sizeof(T));
  }
  return true;
}

template <class T>
T ToInteger(double v) {
  return v >= std::numeric_limits<T>::min() && v <= std::numeric_limits<T>::max()
             ? static_cast<T>(v)
             : T{};
}

int64_t RowValues(const StoredTensor& t) {
  int64_t values = 1;
  for (size_t i = t.shape.size() > 1 ? 1 : 0; i < t.shape.size(); ++i) values *= t.shape[i];
  return values;
}

}  // namespace

absl::StatusOr<StoredTensor> StoreValues(std::string name, DType dtype, std::vector<int64_t> shape,
                                         absl::Span<const double> values) {
  StoredTensor t{.name = std::move(name), .dtype = dtype, .shape = std::move(shape)};
  bool fits = false;
  switch (dtype) {
    case DType::kF32:
      fits = Append<float>(
          values, [](double v) { return static_cast<float>(v); }, &t.bytes);
      break;
    case DType::kF16:
      fits = Append<F16>(
          values, [](double v) { return ToF16(static_cast<float>(v)); }, &t.bytes);
      break;
    case DType::kBF16:
      fits = Append<BF16>(
          values, [](double v) { return ToBF16(static_cast<float>(v)); }, &t.bytes);
      break;
    case DType::kI8:
      fits = Append<int8_t>(values, &ToInteger<int8_t>, &t.bytes);
      break;
    case DType::kI32:
      fits = Append<int32_t>(values, &ToInteger<int32_t>, &t.bytes);
      break;
    default:
      break;
  }
  if (fits) return t;
  return absl::InvalidArgumentError(absl::StrCat("a value of ", t.name, " is too large for ",
                                                 std::string(Name(dtype)), "; use bf16 or f32"));
}

absl::StatusOr<const StoredTensor*> StoredTensorSource::Find(const std::string& name) const {
  for (const StoredTensor& t : tensors_) {
    if (t.name == name) return &t;
  }
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
}

absl::Status StoredTensorSource::ReadRows(const std::string& tensor, int64_t row_begin,
                                          int64_t row_end, int64_t cols, DType dtype,
                                          void* out) const {
  RK_ASSIGN_OR_RETURN(const StoredTensor* t, Find(tensor));
  const auto width = static_cast<int64_t>(SizeOf(t->dtype));
  const int64_t count = (row_end - row_begin) * cols;
  if (RowValues(*t) != cols || row_begin < 0 || row_end < row_begin ||
      row_end * cols * width > static_cast<int64_t>(t->bytes.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", tensor, " has rows of ", RowValues(*t), " values, but ", cols, " are taken"));
  }
  const char* from = t->bytes.data() + row_begin * cols * width;
  if (t->dtype == dtype) {
    std::memcpy(out, from, static_cast<size_t>(count * width));
    return absl::OkStatus();
  }
  if (t->dtype == DType::kI8 && dtype == DType::kF32) {
    for (int64_t i = 0; i < count; ++i) {
      static_cast<float*>(out)[i] = static_cast<int8_t>(from[i]);
    }
    return absl::OkStatus();
  }
  if (!IsFloat(t->dtype) || !IsFloat(dtype) ||
      ConvertFloats(t->dtype, from, dtype, out, count) >= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", tensor, " cannot be read as ", std::string(Name(dtype))));
  }
  return absl::OkStatus();
}

absl::Status StoredTensorSource::ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                               int64_t cols, BlockRowsBuffer* out) const {
  ResizeBlockRows(core.encoding, row_end - row_begin, cols, out);
  for (const BlockRole& role : BlockRoles(core.encoding, cols)) {
    RK_ASSIGN_OR_RETURN(const StoredTensor* t, Find(core.TensorOf(role.role)));
    // The one scale of a matrix is of no row.
    const int64_t begin = row_begin * role.row_bytes();
    const int64_t end = role.row_values == 0 ? static_cast<int64_t>(SizeOf(role.dtype))
                                             : row_end * role.row_bytes();
    if (end > static_cast<int64_t>(t->bytes.size())) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", t->name, " is too short"));
    }
    RK_RETURN_IF_ERROR(
        LoadRole(reinterpret_cast<const uint8_t*>(t->bytes.data()) + begin, role, row_begin, out));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> StoredTensorSource::NumRows(const std::string& tensor) const {
  RK_ASSIGN_OR_RETURN(const StoredTensor* t, Find(tensor));
  return t->shape.empty() ? 1 : t->shape[0];
}

}  // namespace rankine
