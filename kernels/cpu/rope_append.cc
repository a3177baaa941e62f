// Rotary embedding of q in place, and of k on its way into the cache. Keys are stored transposed,
// so a token's key is scattered into head_dim cache lines, 32 tokens sharing each: neighbouring
// rows go to one thread while the lines are still in L1.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope_append.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/base/check.h"
#include "kernels/cpu/attention_ops.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kStep = static_cast<int64_t>(kLanes);

// to = from rotated; both [2 x half], may be the same.
void Rotate(const float* from, const float* cos, const float* sin, int64_t half, float* to) {
  const DF d;
  for (int64_t j = 0; j < half; j += kStep) {
    const size_t count = static_cast<size_t>(half - j);
    const VF a = LoadUpTo(from + j, count);
    const VF b = LoadUpTo(from + half + j, count);
    const VF c = LoadUpTo(cos + j, count);
    const VF s = LoadUpTo(sin + j, count);
    const VF low = hn::NegMulAdd(b, s, hn::Mul(a, c));
    const VF high = hn::MulAdd(a, s, hn::Mul(b, c));
    if (count >= kLanes) {
      hn::StoreU(low, d, to + j);
      hn::StoreU(high, d, to + half + j);
    } else {
      hn::BlendedStore(low, hn::FirstN(d, count), d, to + j);
      hn::BlendedStore(high, hn::FirstN(d, count), d, to + half + j);
    }
  }
}

// Vectors of head_dim numbers on their way into the cache; whole vectors may be read and written.
struct alignas(64) HeadBuffer {
  float values[kMaxHeadDim + kLanes];
};

template <class T>
struct CodeBuffer {
  alignas(64) T codes[kMaxHeadDim + kLanes];
};

template <class T>
void Encode(const HeadBuffer& from, int64_t n, CodeBuffer<T>* to, float* /*scale*/) {
  for (int64_t i = 0; i < n; i += kStep)
    StoreNarrow(hn::LoadU(DF(), from.values + i), to->codes + i);
}

// The scale is NaN when a value is NaN or infinite, so that a fault is seen at the logits and not
// rounded away.
void Encode(const HeadBuffer& from, int64_t n, CodeBuffer<int8_t>* to, float* scale) {
  const DF d;
  VF largest = hn::Zero(d);
  VF poison = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kStep) {
    const VF v = LoadUpTo(from.values + i, static_cast<size_t>(n - i));
    largest = hn::Max(largest, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  *scale = Max(largest) / 127.0f + Sum(poison);
  const bool usable = *scale > 0;  // false for NaN too
  const VF divisor = hn::Set(d, usable ? *scale : 1.0f);
  const hn::Rebind<int8_t, DF> d8;
  for (int64_t i = 0; i < n; i += kStep) {
    VF v = usable ? hn::Div(hn::LoadU(d, from.values + i), divisor) : hn::Zero(d);
    v = hn::Min(hn::Max(v, hn::Set(d, -127.0f)), hn::Set(d, 127.0f));
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(v)), d8, to->codes + i);
  }
}

// Writes one token's key and value of one head; `base` is the first element of the (block, head).
template <class T>
void AppendHead(const KvLayer& cache, int64_t block_head, int64_t offset, const HeadBuffer& key,
                const HeadBuffer& value) {
  const int64_t n = cache.head_dim;
  const int64_t base = block_head * cache.head_elements();
  CodeBuffer<T> codes;
  float scale = 0;
  Encode(key, n, &codes, &scale);
  T* keys = static_cast<T*>(cache.keys) + base + offset;
  for (int64_t i = 0; i < n; ++i) keys[i * kKvBlockTokens] = codes.codes[i];
  if (cache.key_scales != nullptr) cache.key_scales[block_head * kKvBlockTokens + offset] = scale;

  Encode(value, n, &codes, &scale);
  T* values = static_cast<T*>(cache.values) + base + offset * n;
  for (int64_t i = 0; i < n; ++i) values[i] = codes.codes[i];
  if (cache.value_scales != nullptr) {
    cache.value_scales[block_head * kKvBlockTokens + offset] = scale;
  }
}

template <class T>
void RopeAppendRows(const RopeAppendArgs& args, int64_t begin, int64_t end) {
  const KvLayer& cache = args.cache;
  const int64_t n = cache.head_dim;
  const int64_t half = n / 2;
  HeadBuffer key = {};
  HeadBuffer value = {};
  for (int64_t row = begin; row < end; ++row) {
    const bool rotates = args.cos != nullptr;
    const float* cos = rotates ? args.cos + row * half : nullptr;
    const float* sin = rotates ? args.sin + row * half : nullptr;
    float* q = args.q.Row<float>(row);
    for (int64_t h = 0; rotates && h < args.num_heads; ++h)
      Rotate(q + h * n, cos, sin, half, q + h * n);
    const int64_t block = args.slots[row] / kKvBlockTokens;
    const int64_t offset = args.slots[row] % kKvBlockTokens;
    RK_CHECK(args.slots[row] >= 0 && block < cache.num_blocks);
    for (int64_t h = 0; h < cache.kv_heads; ++h) {
      const float* k = args.k.Row<float>(row) + h * n;
      if (rotates) {
        Rotate(k, cos, sin, half, key.values);
      } else {
        std::copy(k, k + n, key.values);
      }
      const float* v = args.v.Row<float>(row) + h * n;
      for (int64_t i = 0; i < n; ++i) value.values[i] = v[i];
      AppendHead<T>(cache, block * cache.kv_heads + h, offset, key, value);
    }
  }
}

void RopeAppend(const RopeAppendArgs& args, Stream stream) {
  const KvLayer& cache = args.cache;
  RK_CHECK((args.cos == nullptr || cache.head_dim % 2 == 0) && cache.head_dim <= kMaxHeadDim);
  const bool scaled = cache.key_scales != nullptr && cache.value_scales != nullptr;
  RK_CHECK(scaled == (cache.dtype == DType::kI8));
  const int64_t elements = (args.num_heads + 2 * cache.kv_heads) * cache.head_dim;
  ForRows(stream, args.q.rows, elements, [&](int64_t begin, int64_t end) {
    switch (cache.dtype) {
      case DType::kF32:
        return RopeAppendRows<float>(args, begin, end);
      case DType::kF16:
        return RopeAppendRows<F16>(args, begin, end);
      case DType::kBF16:
        return RopeAppendRows<BF16>(args, begin, end);
      case DType::kI8:
        return RopeAppendRows<int8_t>(args, begin, end);
      default:
        RK_CHECK(false);
    }
  });
}

}  // namespace

void FillRopeAppend(OpTable* table) { table->rope_append = RopeAppend; }

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillRopeAppendAvx2(OpTable* table) { N_AVX2::FillRopeAppend(table); }
void FillRopeAppendAvx512(OpTable* table) { N_AVX3::FillRopeAppend(table); }

}  // namespace rankine
#endif
