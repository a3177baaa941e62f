// A row's bits depend on its sequence alone: not on how its prompt was cut, who else is in the
// call, how many threads there are, or what lies in slots that nobody wrote.
#include <gtest/gtest.h>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cache_testing.h"

namespace rankine {
namespace {

constexpr int64_t kPrompt = 700;  // crosses a span
constexpr int64_t kNeighbour = 530;

// A long prompt, and a neighbour that decodes in the same calls.
class Run {
 public:
  Run(const OpTable& table, const Shape& shape, DType dtype, int threads, uint32_t placement)
      : table_(table),
        shape_(shape),
        pool_(threads),
        blocks_(ScatteredBlocks(BlocksFor(kPrompt) + BlocksFor(kNeighbour + kPrompt), placement)),
        cache_(dtype, static_cast<int64_t>(blocks_.size()), shape.kv_heads, shape.head_dim),
        prompt_(shape, kPrompt, 21),
        neighbour_(shape, kNeighbour + kPrompt, 22) {}

  // The whole prompt's output, cut into chunks.
  std::vector<float> Attend(int64_t chunk, bool with_neighbour) {
    const int32_t* others = blocks_.data() + BlocksFor(kPrompt);
    if (with_neighbour) Append(others, 0, kNeighbour, &neighbour_);
    std::vector<float> result;
    int64_t seen = kNeighbour;
    for (int64_t p = 0; p < kPrompt; p += chunk) {
      const int64_t tokens = std::min(chunk, kPrompt - p);
      Append(blocks_.data(), p, tokens, &prompt_);
      std::vector<AttentionSequence> sequences;
      int64_t row = 0;
      if (with_neighbour) {
        Append(others, seen, 1, &neighbour_);
        sequences.push_back({others, row++, 1, seen++});
      }
      sequences.push_back({blocks_.data(), row, tokens, p});
      Call(sequences, row + tokens, p, tokens, &result);
    }
    return result;
  }

 private:
  void Append(const int32_t* ids, int64_t first, int64_t tokens, TokenStreamData* data) {
    AppendTokens(table_, Stream{&pool_}, shape_, cache_.layer(), ids, first, tokens, data);
  }

  void Call(const std::vector<AttentionSequence>& sequences, int64_t rows, int64_t first,
            int64_t tokens, std::vector<float>* result) {
    const int64_t cols = shape_.num_heads * shape_.head_dim;
    TestMatrix q(DType::kF32, rows, cols);
    TestMatrix out(DType::kF32, rows, cols);
    if (rows > tokens) {
      std::copy_n(neighbour_.q.row(sequences[0].first_position), q.stride(), q.row(0));
    }
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(prompt_.q.row(first + t), q.stride(), q.row(rows - tokens + t));
    }
    const int64_t context = kNeighbour + kPrompt;
    PoisonedBuffer workspace(AttentionWorkspaceBytes(rows, context, shape_.num_heads,
                                                     shape_.head_dim, pool_.num_threads()));
    table_.attention({.q = q.view(),
                      .out = out.view(),
                      .sequences = sequences.data(),
                      .num_sequences = static_cast<int64_t>(sequences.size()),
                      .num_heads = shape_.num_heads,
                      .scale = 0.25f,
                      .cache = cache_.layer(),
                      .workspace = workspace.data()},
                     Stream{&pool_});
    for (int64_t t = 0; t < tokens; ++t) {
      const float* from = out.row(rows - tokens + t);
      result->insert(result->end(), from, from + cols);
    }
  }

  const OpTable& table_;
  Shape shape_;
  ThreadPool pool_;
  std::vector<int32_t> blocks_;
  TestCache cache_;
  TokenStreamData prompt_, neighbour_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void ExpectSameBits(const Shape& shape, DType dtype) {
  for (const OpTable* table : CpuOpTables()) {
    const std::vector<float> whole = Run(*table, shape, dtype, 1, 1).Attend(kPrompt, false);
    for (const float x : whole) ASSERT_TRUE(std::isfinite(x));
    uint32_t placement = 2;
    const auto expect = [&](int threads, int64_t chunk, bool with_neighbour) {
      Run run(*table, shape, dtype, threads, placement++);
      EXPECT_TRUE(SameBits(run.Attend(chunk, with_neighbour), whole))
          << table->name << " " << Name(dtype) << " threads=" << threads << " chunk=" << chunk
          << " neighbour=" << with_neighbour;
    };
    for (const int threads : {1, 2, 3, 4}) {
      for (const int64_t chunk : {int64_t{64}, int64_t{300}, kPrompt}) {
        expect(threads, chunk, threads % 2 == 0);
        expect(threads, chunk, threads % 2 != 0);
      }
    }
    // Many calls: not at every number of threads.
    expect(1, 1, false);
    expect(2, 1, true);
    expect(3, 7, true);
    expect(4, 7, false);
  }
}

TEST(AttentionDeterminism, F32) { ExpectSameBits({6, 2, 16}, DType::kF32); }
TEST(AttentionDeterminism, F16) { ExpectSameBits({6, 2, 16}, DType::kF16); }
TEST(AttentionDeterminism, BF16) { ExpectSameBits({6, 2, 16}, DType::kBF16); }
TEST(AttentionDeterminism, I8) { ExpectSameBits({6, 2, 16}, DType::kI8); }
TEST(AttentionDeterminism, OneHeadPerKvHeadAndAnOddWidth) {
  ExpectSameBits({2, 2, 20}, DType::kF16);
}
TEST(AttentionDeterminism, ManyHeadsPerKvHead) { ExpectSameBits({10, 1, 8}, DType::kI8); }

}  // namespace
}  // namespace rankine
