// Shares the work of all products of a call among the threads.
#include <algorithm>
#include <atomic>

#include "kernels/base/check.h"
#include "kernels/cpu/products_plan.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

// Below this a barrier (about 1 us) costs more than the other threads save.
constexpr int64_t kMinParallelBytes = 16 << 10;
// Bound on what one thread takes at once: 10 us of streaming.
constexpr int64_t kMaxChunkBytes = 256 << 10;
// Products of one call whose plans fit on the stack; more are run in several regions.
constexpr int kMaxPlans = 32;

struct Plans {
  Plan plans[kMaxPlans];
  int count = 0;
  int64_t bytes = 0;
  bool streams = true;  // all of them, else none
};

// Hands out runs of blocks of all products in memory order, long ones first and single blocks at
// the end (guided self-scheduling, Polychronopoulos & Kuck, IEEE Trans. Computers 36(12), 1987):
// few breaks in each thread's stream, and threads that end within a block's time of each other.
class BlockQueue {
 public:
  BlockQueue(int64_t count, int64_t max_chunk, int num_threads)
      : count_(count), max_chunk_(max_chunk), num_threads_(num_threads) {}

  bool Next(Range* range) {
    int64_t begin = next_.load(std::memory_order_relaxed);
    int64_t size;
    do {
      if (begin >= count_) return false;
      size = std::clamp<int64_t>((count_ - begin) / (2 * num_threads_), 1, max_chunk_);
    } while (!next_.compare_exchange_weak(begin, begin + size, std::memory_order_relaxed));
    *range = {begin, begin + size};
    return true;
  }

 private:
  std::atomic<int64_t> next_{0};
  int64_t count_, max_chunk_;
  int num_threads_;
};

// The plan that holds block (or task) `index` of all, by each plan's size; *index becomes the index
// in it.
template <class SizeOfPlan>
const Plan* Locate(const Plans& plans, SizeOfPlan size, int64_t* index) {
  for (int i = 0; i < plans.count; ++i) {
    const int64_t here = size(plans.plans[i]);
    if (*index < here) return &plans.plans[i];
    *index -= here;
  }
  return nullptr;
}

const char* WeightsAt(const Plans& plans, int64_t block) {
  const Plan* plan = Locate(
      plans, [](const Plan& p) { return p.blocks(); }, &block);
  return plan == nullptr ? nullptr : plan->Block(block);
}

// Streams blocks [chunk.begin, chunk.end) of all products, which may lie in several of them. What
// follows is prefetched: the chunk's own next product or, at its end, block `following`.
void StreamChunk(const Plans& plans, Range chunk, int64_t following) {
  while (chunk.size() > 0) {
    int64_t block = chunk.begin;
    const Plan* plan = Locate(
        plans, [](const Plan& p) { return p.blocks(); }, &block);
    const int64_t count = std::min(chunk.size(), plan->blocks() - block);
    chunk.begin += count;
    const char* next = WeightsAt(plans, chunk.size() > 0 ? chunk.begin : following);
    if (next == nullptr) next = plan->Block(block);  // nothing follows: touch what is cached
    StreamBlocks(*plan, {block, block + count}, next);
  }
}

template <class F>
void RunOn(Stream stream, bool alone, F&& work) {
  if (alone) {
    work(0);
  } else {
    OnThreads(stream, work);
  }
}

void StreamAll(const Plans& plans, Stream stream, int num_threads) {
  int64_t blocks = 0;
  for (int i = 0; i < plans.count; ++i) blocks += plans.plans[i].blocks();
  if (blocks == 0) return;
  const int64_t max_chunk = kMaxChunkBytes / std::max<int64_t>(1, plans.bytes / blocks);
  BlockQueue queue(blocks, std::max<int64_t>(1, max_chunk), num_threads);
  RunOn(stream, blocks == 1 || plans.bytes < kMinParallelBytes, [&](int) {
    TakeAhead(
        blocks >= kItemsPerThreadToTakeAhead * num_threads, Range{blocks, blocks},
        [&](Range* chunk) { return queue.Next(chunk); },
        [&](Range chunk, Range following) { StreamChunk(plans, chunk, following.begin); });
  });
}

void RunPanels(const Plans& plans, Stream stream) {
  int64_t count = 0;
  for (int i = 0; i < plans.count; ++i) count += NumPanelTasks(plans.plans[i]);
  WorkQueue queue(count, 1);
  RunOn(stream, count <= 1, [&](int) {
    int64_t index, end;
    while (queue.Next(&index, &end)) {
      const Plan* plan = Locate(plans, NumPanelTasks, &index);
      RunPanelTask(*plan, index);
    }
  });
}

void CheckProduct(const Product& p, int64_t num_tokens) {
  const int64_t rows = num_tokens * p.rows_per_token;
  RK_CHECK(p.x.cols >= p.weights.k && p.x.rows >= rows && p.y.rows >= num_tokens);
  RK_CHECK(p.run >= 0 && (p.run == 0 || p.weights.n % p.run == 0));
  const bool plain = p.rows_per_token == 1 && p.run == 0;
  RK_CHECK(!plain || p.y.cols >= p.weights.n);
  RK_CHECK(!plain || p.y.stride >= RoundUp(p.weights.n, kBlockRows) || num_tokens <= 1);
  RK_CHECK(p.x.dtype != DType::kI8 || p.weights.dtype == DType::kU8);
  RK_CHECK(p.y.dtype == DType::kF32 || (p.y.dtype == DType::kBF16 && !p.accumulate));
}

Plan MakePlan(const Product& product, int64_t num_tokens, const KernelSet& set) {
  Plan plan{.product = &product, .num_rows = num_tokens * product.rows_per_token};
  const DType x = product.x.dtype == DType::kI8 ? DType::kF32 : product.x.dtype;
  plan.kernels = set.floats(plan.is_encoded() ? DType::kF32 : product.weights.dtype, x);
  RK_CHECK(plan.kernels != nullptr);
  if (plan.num_rows == 1 && plan.kernels->of_one_row != nullptr) {
    plan.kernels = plan.kernels->of_one_row;
  }
  if (plan.is_encoded()) {
    plan.encoded.kernels = set.blocks(product.weights.encoding);
    PrepareEncoded(&plan);
  }
  return plan;
}

void MakePlans(const Product* products, int count, int64_t num_tokens, const KernelSet& set,
               int num_threads, Plans* plans) {
  plans->count = count;
  for (int i = 0; i < count; ++i) {
    CheckProduct(products[i], num_tokens);
    Plan& plan = plans->plans[i];
    plan = MakePlan(products[i], num_tokens, set);
    plan.panel_blocks = ChoosePanelBlocks(plan, num_threads);
    plans->streams &= plan.num_rows <= MaxStreamRows(plan);
    plans->bytes += plan.bytes();
  }
}

}  // namespace

void RunProducts(const ProductsArgs& args, Stream stream, const KernelSet& set) {
  if (args.num_tokens == 0) return;
  const int num_threads = stream.pool == nullptr ? 1 : stream.pool->num_threads();
  for (int first = 0; first < args.num_products; first += kMaxPlans) {
    Plans plans;
    MakePlans(args.products + first, std::min(kMaxPlans, args.num_products - first),
              args.num_tokens, set, num_threads, &plans);
    if (plans.streams) {
      StreamAll(plans, stream, num_threads);
    } else {
      RunPanels(plans, stream);
    }
  }
}

}  // namespace rankine
