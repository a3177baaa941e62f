#include <gtest/gtest.h>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cache_testing.h"

namespace rankine {
namespace {

// A sequence of a test: tokens in the cache, of which the last are new.
struct Part {
  int64_t context;
  int64_t new_tokens;
};

// A batch whose parts' contexts are in the cache, written by the reference.
struct Batch {
  Batch(const Shape& s, DType dtype, const std::vector<Part>& parts, float query_scale = 1.0f)
      : shape(s),
        cache(dtype, TotalBlocks(parts), s.kv_heads, s.head_dim),
        blocks(ScatteredBlocks(TotalBlocks(parts), 9)),
        q(DType::kF32, TotalRows(parts), s.num_heads * s.head_dim, 1) {
    std::mt19937 rng(5);
    q.FillRandom(&rng, query_scale);
    int64_t row = 0;
    const int32_t* ids = blocks.data();
    for (const Part& part : parts) {
      TokenStreamData data(s, part.context, static_cast<uint32_t>(row));
      AppendTokens(RefOps(), Stream{}, s, cache.layer(), ids, 0, part.context, &data);
      sequences.push_back({.block_ids = ids,
                           .first_row = row,
                           .num_tokens = part.new_tokens,
                           .first_position = part.context - part.new_tokens});
      row += part.new_tokens;
      ids += BlocksFor(part.context);
      max_context = std::max(max_context, part.context);
    }
  }
  static int64_t TotalBlocks(const std::vector<Part>& parts) {
    int64_t n = 0;
    for (const Part& p : parts) n += BlocksFor(p.context);
    return n;
  }
  static int64_t TotalRows(const std::vector<Part>& parts) {
    int64_t n = 0;
    for (const Part& p : parts) n += p.new_tokens;
    return n;
  }
  void Run(const OpTable& table, ThreadPool* pool, TestMatrix* out) {
    const int threads = pool == nullptr ? 1 : pool->num_threads();
    PoisonedBuffer workspace(AttentionWorkspaceBytes(q.view().rows, max_context, shape.num_heads,
                                                     shape.head_dim, threads));
    table.attention({.q = q.view(),
                     .out = out->view(),
                     .sequences = sequences.data(),
                     .num_sequences = static_cast<int64_t>(sequences.size()),
                     .num_heads = shape.num_heads,
                     .scale = Scale(),
                     .causal = causal,
                     .cache = cache.layer(),
                     .workspace = workspace.data()},
                    Stream{pool});
  }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

  // The largest |out - exact| that f32 arithmetic may cause, with |q|, |k| and |v| from the data:
  // every score is off by (head_dim + 3) roundings of |q||k| scale, which shifts each weight by
  // that much relatively, over and under the fraction; to this add the exponential's roundings and
  // those of two sums over the context.
  double Tolerance(double largest_query) const {
    constexpr double kLargest = 6;  // of the normal numbers drawn for k and v
    const double d = static_cast<double>(shape.head_dim);
    // |k| <= 2 sqrt(d): a sum of d squares of normal numbers beyond 4 d has no chance.
    const double score = (d + 3) * kRoundF32 * Scale() * largest_query * 2 * std::sqrt(d);
    const double weight = 2 * score + 8 * kRoundF32;
    return kLargest * (2 * weight + 2 * (static_cast<double>(max_context) + 8) * kRoundF32);
  }
  double LargestQuery() {
    double largest = 0;
    for (int64_t r = 0; r < q.view().rows; ++r) {
      for (int64_t h = 0; h < shape.num_heads; ++h) {
        double sum = 0;
        for (int64_t i = 0; i < shape.head_dim; ++i) {
          const double x = q.Get(r, h * shape.head_dim + i);
          sum += x * x;
        }
        largest = std::max(largest, std::sqrt(sum));
      }
    }
    return largest;
  }

  Shape shape;
  TestCache cache;
  std::vector<int32_t> blocks;
  TestMatrix q;
  std::vector<AttentionSequence> sequences;
  int64_t max_context = 0;
  bool causal = true;
};

void ExpectEqualsReference(Batch* batch, const std::vector<const OpTable*>& tables) {
  const int64_t rows = batch->q.view().rows;
  const int64_t cols = batch->q.cols();
  TestMatrix want(DType::kF32, rows, cols);
  batch->Run(RefOps(), nullptr, &want);
  const double tolerance = batch->Tolerance(batch->LargestQuery());
  for (const OpTable* table : tables) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int threads : {1, 3}) {
        SCOPED_TRACE(testing::Message() << table->name << " " << Name(dtype) << " x" << threads);
        ThreadPool pool(threads);
        TestMatrix got(dtype, rows, cols, 3);
        batch->Run(*table, &pool, &got);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < cols; ++c) {
            const double w = want.Get(r, c);
            ASSERT_NEAR(got.Get(r, c), w, tolerance + 2 * StoreError(dtype) * std::fabs(w))
                << r << ", " << c;
          }
        }
        EXPECT_TRUE(got.PadsAreZero());
        EXPECT_TRUE(got.GuardsAreIntact());
      }
    }
  }
}

TEST(Attention, EqualsReferenceAtEveryHeadDim) {
  for (const DType dtype : kCacheTypes) {
    for (int64_t head_dim : {2, 8, 10, 16, 20, 34, 64, 80, 96, 128, 256}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " head_dim=" << head_dim);
      Batch batch({4, 2, head_dim}, dtype, {{45, 45}, {33, 1}, {70, 9}});
      ExpectEqualsReference(&batch, CpuOpTables());
    }
  }
}

// Every context from one token to past two blocks, whole prompts and single tokens.
TEST(Attention, EqualsReferenceAtEveryContext) {
  for (const DType dtype : kCacheTypes) {
    std::vector<Part> parts;
    for (int64_t context = 1; context <= 68; ++context) {
      parts.push_back({context, 1 + (context * 7) % context});
    }
    parts.push_back({68, 68});
    Batch batch({3, 1, 16}, dtype, parts);
    ExpectEqualsReference(&batch, CpuOpTables());
  }
}

TEST(Attention, EqualsReferenceForEveryGroup) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    for (int64_t group : {1, 2, 3, 5, 6, 7, 8, 9, 16, 71}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " group=" << group);
      Batch batch({2 * group, 2, 16}, dtype, {{40, 40}, {65, 1}, {50, 3}});
      ExpectEqualsReference(&batch, CpuOpTables());
    }
  }
}

TEST(Attention, EqualsReferenceAcrossSpans) {
  for (const DType dtype : kCacheTypes) {
    for (const int64_t context : {127, 128, 129, 256, 300, 1024, 1100}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " context=" << context);
      Batch one({6, 2, 16}, dtype, {{context, 1}});
      ExpectEqualsReference(&one, CpuOpTables());
      Batch several({6, 2, 16}, dtype, {{context, 3}, {context + 40, 50}, {5, 5}});
      ExpectEqualsReference(&several, CpuOpTables());
    }
  }
}

// Weights that fall on few tokens: the running maximum moves by a lot.
TEST(Attention, EqualsReferenceWithSharpScores) {
  for (const DType dtype : kCacheTypes) {
    Batch batch({3, 3, 64}, dtype, {{600, 40}, {100, 1}}, 8.0f);
    ExpectEqualsReference(&batch, CpuOpTables());
  }
}

// Lengths around a block, a tile and a span; several in one batch.
TEST(Attention, SeesWholeSequencesWhenNotCausal) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t head_dim : {3, 16, 20, 32, 64}) {
      for (const int64_t length : {1, 2, 31, 32, 33, 64, 65, 127, 128, 129, 300}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << head_dim << " " << length);
        Batch one({2, 2, head_dim}, dtype, {{length, length}});
        one.causal = false;
        ExpectEqualsReference(&one, CpuOpTables());
        Batch several({4, 2, head_dim}, dtype, {{7, 7}, {length, length}, {40, 40}, {1, 1}});
        several.causal = false;
        ExpectEqualsReference(&several, CpuOpTables());
      }
    }
  }
}

// With equal scores every row is the mean of all values, also of later ones.
TEST(Attention, RowsOfAnEncoderSeeWhatFollows) {
  Batch batch({1, 1, 2}, DType::kF32, {{3, 3}});
  batch.causal = false;
  float* values = static_cast<float*>(batch.cache.layer().values);
  for (int64_t t = 0; t < 3; ++t) {
    batch.q.row(t)[0] = batch.q.row(t)[1] = 0.0f;
    values[t * 2] = static_cast<float>(t * t);
    values[t * 2 + 1] = 1.0f;
  }
  for (const OpTable* table : AllTables()) {
    TestMatrix out(DType::kF32, 3, 2);
    batch.Run(*table, nullptr, &out);
    for (int64_t t = 0; t < 3; ++t) {
      EXPECT_NEAR(out.Get(t, 0), 5.0 / 3, 16 * kRoundF32) << table->name;
      EXPECT_NEAR(out.Get(t, 1), 1.0, 4 * kRoundF32) << table->name;
    }
  }
}

TEST(Attention, ReferenceAveragesEqualScores) {
  const Shape shape{1, 1, 2};
  Batch batch(shape, DType::kF32, {{3, 1}});
  batch.q.row(0)[0] = batch.q.row(0)[1] = 0.0f;
  float* values = static_cast<float*>(batch.cache.layer().values);
  for (int64_t t = 0; t < 3; ++t) {
    values[t * 2] = static_cast<float>(t);
    values[t * 2 + 1] = 6.0f;
  }
  for (const OpTable* table : AllTables()) {
    TestMatrix out(DType::kF32, 1, 2);
    batch.Run(*table, nullptr, &out);
    EXPECT_NEAR(out.Get(0, 0), 1.0f, 4 * kRoundF32) << table->name;
    EXPECT_NEAR(out.Get(0, 1), 6.0f, 24 * kRoundF32) << table->name;
  }
}

// A NaN that belongs to the context is not lost; one in a later token of the same prompt does no
// harm.
TEST(Attention, FaultsReachTheRowsThatSeeThemAndNoOthers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const OpTable* table : CpuOpTables()) {
    for (const bool in_key : {true, false}) {
      Batch batch({6, 1, 16}, DType::kF32, {{50, 50}});
      const KvLayer& c = batch.cache.layer();
      const int64_t bad = 37;
      const int64_t base = batch.blocks[1] * c.block_elements();
      if (in_key) {
        static_cast<float*>(c.keys)[base + 3 * kKvBlockTokens + bad % kKvBlockTokens] = nan;
      } else {
        static_cast<float*>(c.values)[base + bad % kKvBlockTokens * 16 + 3] = nan;
      }
      TestMatrix out(DType::kF32, 50, 96);
      batch.Run(*table, nullptr, &out);
      for (int64_t r = 0; r < 50; ++r) {
        for (int64_t h = 0; h < 6; ++h) {
          EXPECT_EQ(std::isnan(out.Get(r, h * 16 + 3)), r >= bad) << table->name << r << in_key;
        }
      }
    }
  }
}

}  // namespace
}  // namespace rankine
