// Ids of the KV cache's blocks: which are free. Host side only; one owner thread.
#pragma once

#include <cstdint>
#include <vector>

namespace rankine {

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

  // Appends `count` ids to *ids, or returns false and changes nothing when fewer are free.
  [[nodiscard]] bool Allocate(int64_t count, std::vector<int32_t>* ids);
  // Gives the ids back and clears the list. Freeing an id that is free is a broken invariant.
  void Free(std::vector<int32_t>* ids);

 private:
  int64_t num_blocks_;
  std::vector<int32_t> free_;
  std::vector<bool> in_use_;
};

}  // namespace rankine
