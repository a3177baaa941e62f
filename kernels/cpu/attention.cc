// Grouped-query attention over the paged cache: see attention_plan.h for the division of work and
// attention_block-inl.h for the arithmetic.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/attention_block-inl.h"
#include "kernels/cpu/attention_ops.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kStep = static_cast<int64_t>(kLanes);

// A unit of the call in the hands of one thread.
struct Tile {
  const AttentionArgs& args;
  const AttentionPlan& plan;
  AttentionUnit unit;
  AttentionScratch s;

  int64_t Position(int64_t row) const { return unit.Position(row, plan.group); }
  int64_t RowAt(int64_t position) const { return unit.RowAt(position, plan.group); }
  int64_t Head(int64_t row) const {
    return unit.kv_head * plan.group + (unit.first + row) % plan.group;
  }
  int64_t BatchRow(int64_t row) const {
    return unit.sequence->first_row + (unit.first + row) / plan.group;
  }
};

void LoadQueries(const Tile& t) {
  const int64_t n = t.args.cache.head_dim;
  const VF scale = hn::Set(DF(), t.args.scale);
  for (int64_t r = 0; r < t.unit.rows; ++r) {
    const float* from = t.args.q.Row<float>(t.BatchRow(r)) + t.Head(r) * n;
    float* to = t.s.q + r * t.plan.padded_dim;
    for (int64_t i = 0; i < n; i += kStep) {
      const VF v = LoadUpTo(from + i, static_cast<size_t>(n - i));
      hn::StoreU(hn::Mul(v, scale), DF(), to + i);
    }
  }
}

template <class T>
KvBlock<T> FindBlock(const Tile& t, int64_t position) {
  const KvLayer& cache = t.args.cache;
  const int64_t id = t.unit.sequence->block_ids[position / kTokens];
  RK_CHECK(id >= 0 && id < cache.num_blocks);
  const int64_t block_head = id * cache.kv_heads + t.unit.kv_head;
  const int64_t element = block_head * cache.head_elements();
  const bool scaled = cache.dtype == DType::kI8;
  return {.keys = static_cast<const T*>(cache.keys) + element,
          .values = static_cast<const T*>(cache.values) + element,
          .key_scales = scaled ? cache.key_scales + block_head * kTokens : nullptr,
          .value_scales = scaled ? cache.value_scales + block_head * kTokens : nullptr};
}

// acc[first..) = correction x acc + weights V. Rows from `full` on see the whole block; those
// before it see it up to their own position, so rows of one position go together.
template <class T>
void AddValues(const Tile& t, int64_t base, int64_t first, int64_t full, const T* values,
               int64_t stride, int64_t width) {
  const auto add = [&](int64_t row, int64_t rows, int64_t count) {
    Multiply<true>(Operands<T>{.a = t.s.scores + row * kTokens,
                               .a_stride = kTokens,
                               .b = values,
                               .b_stride = stride,
                               .k = count,
                               .row_scale = t.s.correction + row,
                               .c = t.s.acc + row * t.plan.padded_dim,
                               .c_stride = t.plan.padded_dim,
                               .width = width},
                   rows);
  };
  for (int64_t row = first; row < full;) {
    const int64_t position = t.Position(row);
    const int64_t end = t.RowAt(position + 1);
    add(row, end - row, position - base + 1);
    row = end;
  }
  if (full < t.unit.rows) add(full, t.unit.rows - full, kTokens);
}

template <class T>
void Score(const Tile& t, int64_t first, const T* keys) {
  Multiply<false>(Operands<T>{.a = t.s.q + first * t.plan.padded_dim,
                              .a_stride = t.plan.padded_dim,
                              .b = keys,
                              .b_stride = kTokens,
                              .k = t.args.cache.head_dim,
                              .row_scale = nullptr,
                              .c = t.s.scores + first * kTokens,
                              .c_stride = kTokens,
                              .width = kTokens},
                  t.unit.rows - first);
}

// Keys or values of a block and head, which lie apart from those read before and after them: no
// stream that prefetchers of the processor would follow.
template <class T>
void PrefetchBlock(const T* data, int64_t head_dim) {
  const auto* bytes = reinterpret_cast<const char*>(data);
  const auto size = head_dim * kTokens * static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < size; i += 64) __builtin_prefetch(bytes + i, 0, 3);
}

// Attends the tile's rows to the block of tokens [base, base + kTokens). Few rows wait for memory,
// so the values are fetched while scores are computed, and what this thread reads next, keys at
// `following`, while the values are added.
template <class T>
void VisitBlock(const Tile& t, int64_t base, const T* following) {
  const int64_t n = t.args.cache.head_dim;
  const int64_t first = t.RowAt(base);
  const int64_t full = t.RowAt(base + kTokens - 1);
  const KvBlock<T> block = FindBlock<T>(t, base);
  // Widening to L1 pays when several register blocks of rows read the result; the values are the
  // same.
  const bool many = t.unit.rows - first > kBlockRowsMax;
  const bool widen = !std::is_same_v<T, float> && many;
  if (!many) PrefetchBlock(block.values, n);
  if (widen) {
    Widen(block.keys, n, kTokens, t.s.wide_keys, kTokens);
    Score(t, first, t.s.wide_keys);
  } else {
    Score(t, first, block.keys);
  }
  MaskAndMax(t.s, first, t.unit.rows, block.key_scales,
             [&](int64_t row) { return row < full ? t.Position(row) - base + 1 : kTokens; });
  Correct(t.s, first, t.unit.rows);
  Weigh(t.s, first, t.unit.rows, block.value_scales);
  if (!many && following != nullptr) PrefetchBlock(following, n);
  if (widen || n % kStep != 0) {
    const int64_t tokens = std::min(kTokens, t.Position(t.unit.rows - 1) - base + 1);
    Widen(block.values, tokens, n, t.s.wide_values, t.plan.padded_dim);
    AddValues(t, base, first, full, t.s.wide_values, t.plan.padded_dim, RoundUp(n, kStep));
  } else {
    AddValues(t, base, first, full, block.values, n, n);
  }
}

// Leaves acc, max and sum of the rows that reach the span; the others' are zero, -infinity and
// zero.
template <class T>
void VisitSpan(const Tile& t, int64_t span, const T* following) {
  const AttentionScratch& s = t.s;
  const int64_t rows = t.unit.rows;
  std::fill(s.acc, s.acc + rows * t.plan.padded_dim, 0.0f);
  std::fill(s.lane_sums, s.lane_sums + rows * kColumnPad, 0.0f);
  std::fill(s.max, s.max + rows, -std::numeric_limits<float>::infinity());
  const int64_t begin = span * kAttentionSpan;
  const int64_t end = std::min(begin + kAttentionSpan, t.Position(rows - 1) + 1);
  for (int64_t base = begin; base < end; base += kTokens) {
    const int64_t next = base + kTokens;
    VisitBlock<T>(t, base, next < end ? FindBlock<T>(t, next).keys : following);
  }
  for (int64_t r = 0; r < rows; ++r) {
    s.sum[r] = Sum(hn::LoadU(DF(), s.lane_sums + r * kColumnPad));
  }
}

// Merges a later span's (acc, max, sum) into total's, for one row.
void MergeRow(const float* acc, float max, float sum, int64_t n, float* total, float* total_max,
              float* total_sum) {
  const DF d;
  const float merged = std::max(*total_max, max);
  const VF before = ExpNonPositive(hn::Set(d, *total_max - merged));
  const VF after = ExpNonPositive(hn::Set(d, max - merged));
  for (int64_t i = 0; i < n; i += kStep) {
    const VF kept = hn::Mul(hn::LoadU(d, total + i), before);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, acc + i), after, kept), d, total + i);
  }
  *total_max = merged;
  *total_sum = *total_sum * hn::GetLane(before) + sum * hn::GetLane(after);
}

// Takes span `span` of row r into the total; the first span is copied.
void TakeSpan(const Tile& t, int64_t span, int64_t r, const float* acc, float max, float sum) {
  const int64_t n = t.plan.padded_dim;
  float* total = t.s.total + r * n;
  if (span == 0) {
    std::memcpy(total, acc, static_cast<size_t>(n) * sizeof(float));
    t.s.total_max[r] = max;
    t.s.total_sum[r] = sum;
  } else if (span * kAttentionSpan <= t.Position(r)) {
    MergeRow(acc, max, sum, n, total, t.s.total_max + r, t.s.total_sum + r);
  }
}

template <class T>
void StoreRow(const Tile& t, int64_t r) {
  const int64_t n = t.args.cache.head_dim;
  const int64_t head = t.Head(r);
  T* row = t.args.out.Row<T>(t.BatchRow(r));
  const float* from = t.s.total + r * t.plan.padded_dim;
  const VF inverse = hn::Set(DF(), 1.0f / t.s.total_sum[r]);
  for (int64_t i = 0; i < n; i += kStep) {
    alignas(64) T vector[kLanes];
    StoreNarrow(hn::Mul(hn::LoadU(DF(), from + i), inverse), vector);
    std::memcpy(row + head * n + i, vector,
                static_cast<size_t>(std::min(kStep, n - i)) * sizeof(T));
  }
  if (head == t.args.num_heads - 1) {
    const int64_t cols = t.args.num_heads * n;
    std::memset(row + cols, 0, static_cast<size_t>(RoundUp(cols, kColumnPad) - cols) * sizeof(T));
  }
}

void StoreTile(const Tile& t) {
  for (int64_t r = 0; r < t.unit.rows; ++r) {
    if (t.args.out.dtype == DType::kBF16) {
      StoreRow<BF16>(t, r);
    } else {
      StoreRow<float>(t, r);
    }
  }
}

int64_t NumSpans(const Tile& t) { return t.Position(t.unit.rows - 1) / kAttentionSpan + 1; }

template <class T>
void RunUnit(const Tile& t, const T* following) {
  LoadQueries(t);
  for (int64_t span = 0; span < NumSpans(t); ++span) {
    const int64_t next = (span + 1) * kAttentionSpan;
    VisitSpan<T>(t, span, span + 1 < NumSpans(t) ? FindBlock<T>(t, next).keys : following);
    for (int64_t r = 0; r < t.unit.rows; ++r) {
      TakeSpan(t, span, r, t.s.acc + r * t.plan.padded_dim, t.s.max[r], t.s.sum[r]);
    }
  }
  StoreTile(t);
}

// Leaves the span's partial result; the thread that brings a unit's last one merges them all, in
// order.
template <class T>
void RunSpan(const Tile& t, int64_t span, const T* following) {
  if (span >= NumSpans(t)) return;
  const int64_t n = t.plan.padded_dim;
  LoadQueries(t);
  VisitSpan<T>(t, span, following);
  for (int64_t r = 0; r < t.unit.rows; ++r) {
    float* partial = t.plan.Partial(t.unit.index, span, r);
    std::memcpy(partial, t.s.acc + r * n, static_cast<size_t>(n) * sizeof(float));
    partial[n] = t.s.max[r];
    partial[n + 1] = t.s.sum[r];
  }
  std::atomic_ref<int32_t> left(t.plan.spans_left[t.unit.index]);
  if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (int64_t s = 0; s < NumSpans(t); ++s) {
    for (int64_t r = 0; r < t.unit.rows; ++r) {
      const float* partial = t.plan.Partial(t.unit.index, s, r);
      TakeSpan(t, s, r, partial, partial[n], partial[n + 1]);
    }
  }
  StoreTile(t);
}

// What a thread works on, and what it does then.
struct Items {
  int64_t now, next;
};
constexpr int64_t kNoItem = -1;

Tile TileOf(const AttentionArgs& args, const AttentionPlan& plan, int64_t item, int thread) {
  const int64_t unit = plan.split ? item / plan.max_spans : item;
  return {args, plan, plan.Unit(args, unit), plan.Scratch(thread)};
}

int64_t SpanOf(const AttentionPlan& plan, int64_t item) {
  return plan.split ? item % plan.max_spans : 0;
}

// The keys that an item reads first; null where it has nothing to do.
template <class T>
const T* FirstKeys(const AttentionArgs& args, const AttentionPlan& plan, int64_t item, int thread) {
  if (item == kNoItem) return nullptr;
  const Tile t = TileOf(args, plan, item, thread);
  const int64_t span = SpanOf(plan, item);
  return span < NumSpans(t) ? FindBlock<T>(t, span * kAttentionSpan).keys : nullptr;
}

template <class T>
void RunItem(const AttentionArgs& args, const AttentionPlan& plan, Items items, int thread) {
  const Tile tile = TileOf(args, plan, items.now, thread);
  const T* following = FirstKeys<T>(args, plan, items.next, thread);
  if (plan.split) {
    RunSpan<T>(tile, SpanOf(plan, items.now), following);
  } else {
    RunUnit<T>(tile, following);
  }
}

void RunItem(const AttentionArgs& args, const AttentionPlan& plan, Items items, int thread) {
  switch (args.cache.dtype) {
    case DType::kF32:
      return RunItem<float>(args, plan, items, thread);
    case DType::kF16:
      return RunItem<F16>(args, plan, items, thread);
    case DType::kBF16:
      return RunItem<BF16>(args, plan, items, thread);
    case DType::kI8:
      return RunItem<int8_t>(args, plan, items, thread);
    default:
      RK_CHECK(false);
  }
}

// Fewer multiply-adds than this are done before the pool's threads have woken up: a token of 9
// heads of 64 numbers with 64 tokens of context.
constexpr double kWorkWorthABarrier = 2.0 * 9 * 64 * 64;

void Attention(const AttentionArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 || args.out.dtype == DType::kBF16);
  const int num_threads = stream.pool == nullptr ? 1 : stream.pool->num_threads();
  const AttentionPlan plan = AttentionPlan::Make(args, num_threads);
  if (num_threads == 1 || plan.work <= kWorkWorthABarrier) {
    for (int64_t item = 0; item < plan.num_items; ++item) {
      RunItem(args, plan, {item, item + 1 < plan.num_items ? item + 1 : kNoItem}, 0);
    }
    return;
  }
  WorkQueue queue(plan.num_items, 1);
  const auto take = [&](int64_t* item) {
    int64_t end;
    return queue.Next(item, &end);
  };
  const bool enough = plan.num_items >= kItemsPerThreadToTakeAhead * num_threads;
  stream.pool->Run([&](int thread) {
    TakeAhead(enough, kNoItem, take, [&](int64_t now, int64_t next) {
      RunItem(args, plan, {now, next}, thread);
    });
  });
}

}  // namespace

void FillAttention(OpTable* table) { table->attention = Attention; }

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillAttentionAvx2(OpTable* table) {
  FillRopeAppendAvx2(table);
  N_AVX2::FillAttention(table);
}
void FillAttentionAvx512(OpTable* table) {
  FillRopeAppendAvx512(table);
  N_AVX3::FillAttention(table);
}

}  // namespace rankine
#endif
