#include "kernels/cpu/attention_plan.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/attention_ops.h"

namespace rankine {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kFloat = sizeof(float);

// Bytes of each part, each a multiple of kAlign.
struct Parts {
  int64_t unit_ends, spans_left, partials, scratch_per_thread;
};

int64_t RowFloats() { return kAttentionTileRows + kColumnPad; }

int64_t ScratchFloats(int64_t padded_dim) {
  return kAttentionTileRows * (3 * padded_dim + kKvBlockTokens + kColumnPad) + 6 * RowFloats() +
         2 * kKvBlockTokens * padded_dim;
}

// `split_units`: units that are split by spans, 0 for none.
Parts PartBytes(int64_t num_sequences, int64_t split_units, int64_t max_spans, int64_t padded_dim) {
  const int64_t partial_rows = split_units * max_spans * kAttentionTileRows;
  return Parts{.unit_ends = RoundUp(num_sequences * static_cast<int64_t>(sizeof(int64_t)), kAlign),
               .spans_left = RoundUp(split_units * static_cast<int64_t>(sizeof(int32_t)), kAlign),
               .partials = partial_rows * (padded_dim + kColumnPad) * kFloat,
               .scratch_per_thread = RoundUp(ScratchFloats(padded_dim) * kFloat, kAlign)};
}

// Units are split only when there are fewer than this.
int64_t SplitLimit(int num_threads) { return kAttentionUnitsPerThread * num_threads; }

int64_t TilesOf(const AttentionSequence& sequence, int64_t group) {
  return CeilDiv(sequence.num_tokens * group, kAttentionTileRows);
}

}  // namespace

int64_t AttentionWorkspaceBytes(int64_t max_rows, int64_t max_context, int64_t num_heads,
                                int64_t head_dim, int num_threads) {
  // A unit has at least one row of one head. One thread never splits.
  const int64_t split_units =
      num_threads > 1 ? std::min(max_rows * num_heads, SplitLimit(num_threads)) : 0;
  const Parts parts = PartBytes(max_rows, split_units, CeilDiv(max_context, kAttentionSpan),
                                RoundUp(head_dim, kColumnPad));
  return parts.unit_ends + parts.spans_left + parts.partials +
         parts.scratch_per_thread * num_threads;
}

AttentionPlan AttentionPlan::Make(const AttentionArgs& args, int num_threads) {
  const KvLayer& cache = args.cache;
  RK_CHECK(cache.head_dim > 0 && cache.head_dim <= kMaxHeadDim);
  RK_CHECK(cache.kv_heads > 0 && args.num_heads % cache.kv_heads == 0);
  RK_CHECK(reinterpret_cast<uintptr_t>(args.workspace) % kAlign == 0);
  AttentionPlan plan;
  plan.group = args.num_heads / cache.kv_heads;
  plan.padded_dim = RoundUp(cache.head_dim, kColumnPad);
  plan.unit_ends = static_cast<int64_t*>(args.workspace);
  for (int64_t s = 0; s < args.num_sequences; ++s) {
    const AttentionSequence& sequence = args.sequences[s];
    RK_CHECK(sequence.num_tokens > 0);
    const int64_t context = sequence.first_position + sequence.num_tokens;
    plan.num_units += TilesOf(sequence, plan.group) * cache.kv_heads;
    plan.unit_ends[s] = plan.num_units;
    plan.max_spans = std::max(plan.max_spans, CeilDiv(context, kAttentionSpan));
    plan.work += 2.0 * static_cast<double>(sequence.num_tokens) * static_cast<double>(context) *
                 static_cast<double>(args.num_heads * cache.head_dim);
  }
  plan.split = num_threads > 1 && plan.max_spans > 1 && plan.num_units < SplitLimit(num_threads);
  plan.num_items = plan.split ? plan.num_units * plan.max_spans : plan.num_units;

  const Parts parts = PartBytes(args.num_sequences, plan.split ? plan.num_units : 0, plan.max_spans,
                                plan.padded_dim);
  unsigned char* next = static_cast<unsigned char*>(args.workspace) + parts.unit_ends;
  plan.spans_left = reinterpret_cast<int32_t*>(next);
  next += parts.spans_left;
  plan.partials = reinterpret_cast<float*>(next);
  plan.scratch = next + parts.partials;
  if (plan.split) {
    for (int64_t u = 0; u < plan.num_units; ++u) {
      const int64_t last = plan.Unit(args, u).LastPosition(plan.group);
      plan.spans_left[u] = static_cast<int32_t>(last / kAttentionSpan + 1);
    }
  }
  return plan;
}

AttentionUnit AttentionPlan::Unit(const AttentionArgs& args, int64_t index) const {
  const int64_t s = std::upper_bound(unit_ends, unit_ends + args.num_sequences, index) - unit_ends;
  const AttentionSequence& sequence = args.sequences[s];
  const int64_t local = index - (s == 0 ? 0 : unit_ends[s - 1]);
  const int64_t tiles = TilesOf(sequence, group);
  // Later tiles see more context; the longest first, so that no thread is left with one at the end.
  const int64_t tile = tiles - 1 - local / args.cache.kv_heads;
  const int64_t first = tile * kAttentionTileRows;
  const int64_t end = std::min(first + kAttentionTileRows, sequence.num_tokens * group);
  return AttentionUnit{.sequence = &sequence,
                       .kv_head = local % args.cache.kv_heads,
                       .first = first,
                       .rows = end - first,
                       .index = index,
                       .causal = args.causal};
}

AttentionScratch AttentionPlan::Scratch(int thread) const {
  const int64_t bytes = RoundUp(ScratchFloats(padded_dim) * kFloat, kAlign);
  float* next = reinterpret_cast<float*>(scratch + bytes * thread);
  const auto take = [&next](int64_t floats) {
    float* taken = next;
    next += floats;
    return taken;
  };
  AttentionScratch s;
  s.q = take(kAttentionTileRows * padded_dim);
  s.acc = take(kAttentionTileRows * padded_dim);
  s.total = take(kAttentionTileRows * padded_dim);
  s.scores = take(kAttentionTileRows * kKvBlockTokens);
  s.lane_sums = take(kAttentionTileRows * kColumnPad);
  s.max = take(RowFloats());
  s.new_max = take(RowFloats());
  s.correction = take(RowFloats());
  s.sum = take(RowFloats());
  s.total_max = take(RowFloats());
  s.total_sum = take(RowFloats());
  s.wide_keys = take(kKvBlockTokens * padded_dim);
  s.wide_values = take(kKvBlockTokens * padded_dim);
  return s;
}

}  // namespace rankine
