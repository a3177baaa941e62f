#include "runtime/cache/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"

namespace rankine {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

int64_t SaturatingMul(int64_t a, int64_t b) {
  int64_t product = 0;
  return CheckedMul(a, b, &product) ? product : kMax;
}

absl::Status Validate(const KvCacheOptions& o) {
  if (o.num_layers <= 0 || o.kv_heads <= 0 || o.head_dim <= 0 || o.num_blocks <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a KV cache needs positive sizes, got ", o.num_layers, " layers, ", o.kv_heads,
                     " KV heads, head dimension ", o.head_dim, ", ", o.num_blocks, " blocks"));
  }
  if (o.num_blocks > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a KV cache of ", o.num_blocks, " blocks is too large: ids of blocks have 32 bits"));
  }
  if (o.dtype != DType::kF32 && o.dtype != DType::kF16 && o.dtype != DType::kBF16 &&
      o.dtype != DType::kI8) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a KV cache can't hold ", std::string(Name(o.dtype)), "; use f32, f16, bf16 or i8"));
  }
  if (SaturatingMul(KvCache::BytesPerToken(o), SaturatingMul(o.num_blocks, kKvBlockTokens)) ==
      kMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the size of a KV cache of ", o.num_blocks, " blocks overflows"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KvCache> KvCache::Create(Device& device, const KvCacheOptions& options) {
  if (absl::Status status = Validate(options); !status.ok()) return status;
  KvCache cache;
  cache.options_ = options;
  const int64_t rows = options.num_blocks * options.kv_heads * kKvBlockTokens;
  const int64_t data_bytes = rows * options.head_dim * static_cast<int64_t>(SizeOf(options.dtype));
  auto allocate = [&](int64_t bytes) -> absl::StatusOr<void*> {
    absl::StatusOr<Buffer> buffer = Buffer::Allocate(device, bytes);
    if (!buffer.ok()) {
      return absl::Status(buffer.status().code(),
                          absl::StrCat("the KV cache: ", buffer.status().message()));
    }
    cache.buffers_.push_back(std::move(*buffer));
    return cache.buffers_.back().data();
  };
  for (int64_t i = 0; i < options.num_layers; ++i) {
    KvLayer layer{.dtype = options.dtype,
                  .num_blocks = options.num_blocks,
                  .kv_heads = options.kv_heads,
                  .head_dim = options.head_dim};
    for (void** data : {&layer.keys, &layer.values}) {
      absl::StatusOr<void*> memory = allocate(data_bytes);
      if (!memory.ok()) return memory.status();
      *data = *memory;
    }
    if (options.dtype == DType::kI8) {
      for (float** scales : {&layer.key_scales, &layer.value_scales}) {
        absl::StatusOr<void*> memory = allocate(rows * static_cast<int64_t>(sizeof(float)));
        if (!memory.ok()) return memory.status();
        *scales = static_cast<float*>(*memory);
      }
    }
    cache.layers_.push_back(layer);
  }
  return cache;
}

void KvCache::ZeroBlocks(Device& device, const std::vector<int32_t>& block_ids) const {
  const int64_t scale_bytes =
      options_.kv_heads * kKvBlockTokens * static_cast<int64_t>(sizeof(float));
  const int64_t data_bytes = options_.kv_heads * kKvBlockTokens * options_.head_dim *
                             static_cast<int64_t>(SizeOf(options_.dtype));
  const std::vector<char> zeros(std::max(scale_bytes, data_bytes), 0);
  auto zero = [&](void* base, int32_t block, int64_t bytes) {
    if (base == nullptr) return;
    device.CopyToDevice(static_cast<char*>(base) + block * bytes, zeros.data(), bytes);
  };
  for (const KvLayer& layer : layers_) {
    for (int32_t block : block_ids) {
      zero(layer.keys, block, data_bytes);
      zero(layer.values, block, data_bytes);
      zero(layer.key_scales, block, scale_bytes);
      zero(layer.value_scales, block, scale_bytes);
    }
  }
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const Buffer& buffer : buffers_) total += buffer.bytes();
  return total;
}

int64_t KvCache::BytesPerToken(const KvCacheOptions& options) {
  const int64_t scale_bytes = options.dtype == DType::kI8 ? sizeof(float) : 0;
  const int64_t head_bytes =
      SaturatingMul(options.head_dim, static_cast<int64_t>(SizeOf(options.dtype)));
  int64_t with_scale = 0;
  if (!CheckedAdd(head_bytes, scale_bytes, &with_scale)) return kMax;
  // Keys and values.
  return SaturatingMul(SaturatingMul(SaturatingMul(2, with_scale), options.kv_heads),
                       options.num_layers);
}

}  // namespace rankine
