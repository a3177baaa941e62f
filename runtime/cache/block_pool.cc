#include "runtime/cache/block_pool.h"

#include <limits>

#include "kernels/base/check.h"

namespace rankine {

BlockPool::BlockPool(int64_t num_blocks) : num_blocks_(num_blocks), in_use_(num_blocks, false) {
  RK_CHECK(num_blocks >= 0 && num_blocks <= std::numeric_limits<int32_t>::max());
  free_.reserve(num_blocks);
  // Taken from the back: low ids first, so that a lightly used cache touches few pages.
  for (int64_t id = num_blocks - 1; id >= 0; --id) free_.push_back(static_cast<int32_t>(id));
}

bool BlockPool::Allocate(int64_t count, std::vector<int32_t>* ids) {
  RK_CHECK(count >= 0);
  if (count > num_free()) return false;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t id = free_.back();
    free_.pop_back();
    in_use_[id] = true;
    ids->push_back(id);
  }
  return true;
}

void BlockPool::Free(std::vector<int32_t>* ids) {
  // In reverse, so that the next owner gets them in the same order.
  for (auto id = ids->rbegin(); id != ids->rend(); ++id) {
    RK_CHECK(*id >= 0 && *id < num_blocks_ && in_use_[*id]);
    in_use_[*id] = false;
    free_.push_back(*id);
  }
  ids->clear();
}

}  // namespace rankine
