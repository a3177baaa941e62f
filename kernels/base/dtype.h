// Scalar types of buffers, and exact conversions between them.
// f32 -> bf16 and f32 -> f16 round to nearest even; NaN stays NaN.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rankine {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kU8, kI32 };

constexpr size_t SizeOf(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr std::string_view Name(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
    case DType::kI8:
      return "i8";
    case DType::kU8:
      return "u8";
    case DType::kI32:
      return "i32";
  }
  return "?";
}

// Storage of one bf16 or f16 value.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float ToFloat(float v) { return v; }
inline float ToFloat(BF16 v) { return std::bit_cast<float>(uint32_t{v.bits} << 16); }

inline constexpr float kSmallestF16 = 5.9604645e-8f;  // the smallest positive one, 2^-24

inline float ToFloat(F16 v) { return static_cast<float>(std::bit_cast<_Float16>(v.bits)); }

inline BF16 ToBF16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return BF16{static_cast<uint16_t>((u >> 16) | 0x40u)};
  return BF16{static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

inline F16 ToF16(float v) { return F16{std::bit_cast<uint16_t>(static_cast<_Float16>(v))}; }

template <class T>
T FromFloat(float v);
template <>
inline float FromFloat<float>(float v) {
  return v;
}
template <>
inline BF16 FromFloat<BF16>(float v) {
  return ToBF16(v);
}
template <>
inline F16 FromFloat<F16>(float v) {
  return ToF16(v);
}

}  // namespace rankine
