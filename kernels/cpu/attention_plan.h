// How a call of attention is cut into work, and where its scratch stands in the workspace.
//
// The rows that share a KV head (queries x heads per KV head, flattened in that order) are cut into
// tiles; a unit is (sequence, tile, KV head). Normally a unit is one work item that walks its spans
// of the context in order. When there are too few units to keep the threads busy (a lone long
// sequence that decodes), each span is an item of its own that leaves a partial result; whoever
// finishes a unit's last span merges them in order. Both ways do the same arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/api/attention.h"

namespace rankine {

// Rows of a tile: with the block of keys and of values that it meets, they stay in L2 and mostly in
// L1 at head_dim 64 (q, accumulators and scores: 40 KB; keys and values: 16 KB).
inline constexpr int64_t kAttentionTileRows = 64;

// Below this many units per thread, units are split by spans.
inline constexpr int64_t kAttentionUnitsPerThread = 4;

// One thread's scratch; every pointer is 64-byte aligned. Rows of q, acc and total are padded_dim
// apart.
struct AttentionScratch {
  float* q;            // [tile rows, padded_dim], scaled
  float* acc;          // [tile rows, padded_dim], of the current span
  float* total;        // [tile rows, padded_dim], of the spans before it
  float* scores;       // [tile rows, kKvBlockTokens]
  float* lane_sums;    // [tile rows, 16]: a row's sum of weights, a vector of running sums
  float* max;          // [tile rows + 16]; the pads let whole vectors be read and written
  float* new_max;      // [tile rows + 16]
  float* correction;   // [tile rows + 16]
  float* sum;          // [tile rows + 16]
  float* total_max;    // [tile rows + 16]
  float* total_sum;    // [tile rows + 16]
  float* wide_keys;    // [head_dim, kKvBlockTokens]
  float* wide_values;  // [kKvBlockTokens, padded_dim]
};

struct AttentionUnit {
  const AttentionSequence* sequence;
  int64_t kv_head;
  int64_t first;  // first flattened row of the tile
  int64_t rows;
  int64_t index;  // of the unit in the call
  bool causal;

  // The last position that row r of the tile sees, when `group` heads share a KV head: its own, or
  // that of the whole sequence.
  int64_t Position(int64_t row, int64_t group) const {
    return sequence->first_position + (causal ? (first + row) / group : sequence->num_tokens - 1);
  }
  // The first row that sees `position`, at most `rows`.
  int64_t RowAt(int64_t position, int64_t group) const {
    if (!causal) return position <= Position(0, group) ? 0 : rows;
    const int64_t row = (position - sequence->first_position) * group - first;
    return std::clamp<int64_t>(row, 0, rows);
  }
  int64_t LastPosition(int64_t group) const { return Position(rows - 1, group); }
};

struct AttentionPlan {
  int64_t group = 0;       // heads that share a KV head
  int64_t padded_dim = 0;  // head_dim rounded up to 16
  int64_t num_units = 0;
  int64_t max_spans = 0;
  int64_t num_items = 0;
  bool split = false;  // items are (unit, span), not units
  double work = 0;     // multiply-adds, of the whole call

  int64_t* unit_ends = nullptr;   // [num_sequences]: units up to and including each sequence
  int32_t* spans_left = nullptr;  // [num_units], when split
  float* partials = nullptr;      // [num_units, max_spans, tile rows, padded_dim + 16], when split
  unsigned char* scratch = nullptr;  // a slice for each thread

  // Fills the plan and the tables in args.workspace.
  static AttentionPlan Make(const AttentionArgs& args, int num_threads);

  AttentionUnit Unit(const AttentionArgs& args, int64_t index) const;
  AttentionScratch Scratch(int thread) const;

  // A row's partial result: padded_dim sums, then the maximum, then the sum of weights.
  float* Partial(int64_t unit, int64_t span, int64_t row) const {
    return partials +
           ((unit * max_spans + span) * kAttentionTileRows + row) * (padded_dim + kColumnPad);
  }
};

}  // namespace rankine
