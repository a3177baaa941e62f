// Device memory of the paged KV cache: for each layer the keys and values of all blocks
// (kernels/api/kv_cache.h).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/api/kv_cache.h"
#include "runtime/device/device.h"

namespace rankine {

struct KvCacheOptions {
  int64_t num_layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t num_blocks = 0;
  DType dtype = DType::kF16;  // kF32, kF16, kBF16 or kI8
};

class KvCache {
 public:
  // kResourceExhausted when the memory can't be had, kInvalidArgument when a size overflows.
  static absl::StatusOr<KvCache> Create(Device& device, const KvCacheOptions& options);

  const KvLayer& layer(int64_t index) const { return layers_[index]; }
  const KvCacheOptions& options() const { return options_; }
  int64_t bytes() const;
  // Overwrites blocks with zeros. For blocks of a sequence that produced NaN: kernels may multiply
  // what is stale in a block by a probability of 0, and 0 x NaN would reach the next owner.
  void ZeroBlocks(Device& device, const std::vector<int32_t>& block_ids) const;
  // Bytes of one token over all layers, keys and values and scales. On overflow: the largest int64.
  static int64_t BytesPerToken(const KvCacheOptions& options);

 private:
  KvCacheOptions options_;
  std::vector<Buffer> buffers_;
  std::vector<KvLayer> layers_;
};

}  // namespace rankine
