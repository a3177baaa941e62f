// Every form of matrix against a float64 contraction of its cores.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/api/packed_core.h"
#include "tests/runtime/factor/group_testing.h"

namespace rankine {
namespace {

constexpr int64_t kTokens[] = {1, 2, 3, 16, 33};

class FormsTest : public GroupTest {
 protected:
  // In f32 and in bf16, at all token counts. `terms`: products summed along a chain; `roundings`:
  // of activations in bf16.
  void ExpectForm(const std::vector<FactoredMatrix>& matrices, int64_t terms, int roundings,
                  int64_t extra_weight_bytes = 0) {
    const LinearGroup f32 = Load(matrices, {.weight_dtype = DType::kF32,
                                            .compute = DType::kF32,
                                            .extra_weight_bytes = extra_weight_bytes});
    const LinearGroup bf16 = Load(matrices, {.weight_dtype = DType::kBF16,
                                             .compute = DType::kBF16,
                                             .extra_weight_bytes = extra_weight_bytes});
    for (const int64_t tokens : kTokens) {
      ExpectMatches(f32, tokens, F32Roundoff(terms));
      ExpectMatches(bf16, tokens, Bf16Roundoff(terms, roundings));
    }
  }
};

TEST_F(FormsTest, Dense) {
  FactoredMatrix m = RandomDense(&source_, "w", 40, 33, kBf16, 1);
  AddRandomBias(&source_, &m, 2);
  ExpectForm({m}, 33, 0);
}

TEST_F(FormsTest, UsvWithBiasBesideDense) {
  FactoredMatrix a = RandomSvd(&source_, "a", 40, 60, 9, kBf16, 1);
  FactoredMatrix c = RandomDense(&source_, "c", 17, 60, kBf16, 30);
  AddRandomBias(&source_, &a, 9);
  AddRandomBias(&source_, &c, 10);
  ExpectForm({a, RandomSvd(&source_, "b", 17, 60, 5, kBf16, 20), c}, 70, 1);
}

TEST_F(FormsTest, TuckerOfTwoWays) {
  FactoredMatrix m = RandomTucker(&source_, "w", 70, 65, 11, 13, kBf16, 1);
  AddRandomBias(&source_, &m, 9);
  ExpectForm({m}, 90, 2);
}

TEST_F(FormsTest, TuckerOfMoreWays) {
  ExpectForm({RandomTucker3(&source_, "w", 9, 7, 65, 5, 6, 7, kBf16, 1)}, 90, 3);
  ExpectForm({RandomTucker3(&source_, "v", 8, 16, 48, 4, 3, 10, kBf16, 10)}, 70, 3);
}

TEST_F(FormsTest, MatrixProductOperators) {
  // Cores whose results are rounded in bf16 only where they are written between steps; foldings
  // round products of cores once more.
  ExpectForm({RandomMpo(&source_, "two", {8, 6}, {4, 12}, 5, kBf16, 1)}, 100, 2);
  ExpectForm({RandomMpo(&source_, "odd", {5, 7}, {9, 5}, 3, kBf16, 11)}, 100, 2);
  ExpectForm({RandomMpo(&source_, "three", {4, 6, 5}, {4, 3, 8}, 3, kBf16, 21)}, 100, 3);
  ExpectForm({RandomMpo(&source_, "four", {3, 2, 4, 3}, {2, 4, 3, 4}, 3, kBf16, 31)}, 100, 4);
}

TEST_F(FormsTest, RowsBetweenStepsDoNotCollideInACache) {
  // Eight rows of 1024 columns, 2 or 4 kB, follow the first step.
  const std::vector<FactoredMatrix> m = {RandomMpo(&source_, "w", {32, 8}, {32, 32}, 32, kBf16, 1)};
  ExpectForm(m, 1100, 2);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const LinearGroup group = Load(m, {.weight_dtype = dtype, .compute = dtype});
    const std::vector<PlanStep>& steps = group.plan().steps;
    ASSERT_EQ(steps.size(), 2u) << group.plan().expressions[0];
    const PlanProduct& second = steps[1].products[0];
    EXPECT_EQ(second.k, 1024);
    EXPECT_EQ(second.rows, 8);
    EXPECT_EQ((second.x_row_columns - second.k) * static_cast<int64_t>(SizeOf(dtype)), 64);
    EXPECT_EQ(steps[0].products[0].run_stride, second.x_row_columns);
  }
}

TEST_F(FormsTest, OneSiteIsDense) {
  ExpectForm({RandomMpo(&source_, "w", {24}, {20}, 1, kBf16, 1)}, 20, 0);
}

TEST_F(FormsTest, SeveralTerms) {
  FactoredMatrix m = RandomDense(&source_, "w", 48, 40, kBf16, 1);
  m.terms.push_back(RandomSvd(&source_, "lr", 48, 40, 7, kBf16, 10).terms[0]);
  m.terms.push_back(RandomDense(&source_, "v", 48, 40, kBf16, 20).terms[0]);
  m.terms.push_back(RandomTucker(&source_, "t", 48, 40, 5, 6, kBf16, 30).terms[0]);
  AddRandomBias(&source_, &m, 40);
  ExpectForm({m}, 200, 3);
}

TEST_F(FormsTest, LowRankTermStoredFirst) {
  FactoredMatrix m = RandomSvd(&source_, "lr", 48, 40, 7, kBf16, 10);
  m.terms.push_back(RandomDense(&source_, "w", 48, 40, kBf16, 1).terms[0]);
  ExpectForm({m}, 100, 2);
  // The dense term goes first, so that two steps suffice.
  EXPECT_EQ(Load({m}).plan().steps.size(), 2u);
}

TEST_F(FormsTest, LegsStoredInAnyOrder) {
  FactoredMatrix m = RandomTucker(&source_, "w", 20, 24, 5, 6, kBf16, 1);
  for (Core& core : m.terms[0].cores) {
    core = RandomCore(&source_, core.tensors[0].tensor, core.name, {core.legs[1], core.legs[0]},
                      kBf16, 5);
  }
  ExpectForm({m}, 50, 2);
  FactoredMatrix mpo = RandomMpo(&source_, "m", {4, 3}, {6, 5}, 4, kBf16, 9);
  Core& core = mpo.terms[0].cores[1];
  core = RandomCore(&source_, "m.2", "C2", {core.legs[2], core.legs[0], core.legs[1]}, kBf16, 7);
  ExpectForm({mpo}, 60, 2);
}

TEST_F(FormsTest, CoresSharedByRanges) {
  // q, k and v take their rows of one A, and their columns of one G.
  std::vector<FactoredMatrix> group;
  int64_t row = 0;
  for (const auto& [name, out] :
       std::vector<std::pair<std::string, int64_t>>{{"q", 20}, {"k", 9}, {"v", 11}}) {
    FactoredMatrix m = RandomTucker(&source_, name, out, 30, 7, 6, kBf16, 1);
    m.terms[0].cores[0] =
        RandomCore(&source_, "shared.A", "A", {{"o", row, out, 40}, {"a", 0, 7}}, kBf16, 50);
    m.terms[0].cores[1] =
        RandomCore(&source_, "shared.G", "G", {{"a", 0, 7}, {"b", 2, 6, 13}}, kBf16, 51);
    group.push_back(m);
    row += out;
  }
  ExpectForm(group, 60, 2);
}

// A stack of q, k and v, [2 + 1 + 1 heads, 16, 48]: they share all but their rows of A. What they
// share is in memory once, and x goes through C and G once.
TEST_F(FormsTest, AStackIsHeldAndRunOnceInItsGroup) {
  std::vector<FactoredMatrix> group;
  int64_t head = 0;
  for (const auto& [name, heads] :
       std::vector<std::pair<std::string, int64_t>>{{"q", 2}, {"k", 1}, {"v", 1}}) {
    FactoredMatrix m = RandomTucker3(&source_, "stack", heads, 16, 48, 3, 9, 20, kBf16, 1);
    m.name = name;
    m.terms[0].cores[0] =
        RandomCore(&source_, "stack.all", "A", {{"o1", head, heads, 4}, {"a", 0, 3}}, kBf16, 50);
    group.push_back(m);
    head += heads;
  }
  ExpectForm(group, 90, 3);
  const LinearGroup loaded = Load(group, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  int products = 0;
  for (const PlanStep& step : loaded.plan().steps) {
    products += static_cast<int>(step.products.size());
  }
  EXPECT_EQ(products, 2 + 3 * 2);  // C and G, then A and B of each
  // In blocks of 16 rows and pairs of columns: C [20, 48], G [27, 20], B [16, 9], A [2 or 1, 3].
  const int64_t packed = PackedBytes(DType::kF32, 20, 48) + PackedBytes(DType::kF32, 27, 20) +
                         PackedBytes(DType::kF32, 16, 9) + 2 * PackedBytes(DType::kF32, 1, 3) +
                         PackedBytes(DType::kF32, 2, 3);
  EXPECT_EQ(loaded.weight_bytes(), packed);
  // Alone, k is smaller as one matrix; beside the others that would need more memory.
  const LinearGroup alone = Load({group[1]}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  EXPECT_LT(alone.weight_bytes(), packed);
}

TEST_F(FormsTest, Transforms) {
  for (const int64_t in : {64, 48, 33}) {
    FactoredMatrix m = RandomSvd(&source_, "w", 40, in, 9, kBf16, 1);
    m.input_transforms = {RandomPermutation(&source_, "p", in, 5),
                          RandomHadamard(&source_, "h", in, false, 6)};
    m.output_transforms = {RandomHadamard(&source_, "g", 40, true, 7),
                           RandomPermutation(&source_, "s", 40, 8)};
    AddRandomBias(&source_, &m, 9);
    ExpectForm({m}, 300, 4);
  }
}

TEST_F(FormsTest, TransformedTermsAccumulate) {
  FactoredMatrix m = RandomDense(&source_, "w", 24, 32, kBf16, 1);
  m.terms.push_back(RandomSvd(&source_, "lr", 24, 32, 5, kBf16, 3).terms[0]);
  m.input_transforms = {RandomHadamard(&source_, "h", 32, false, 6)};
  m.output_transforms = {RandomHadamard(&source_, "g", 24, true, 7)};
  AddRandomBias(&source_, &m, 8);
  ExpectForm({m}, 150, 4);
  const LinearGroup group = Load({m}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  const std::vector<float> x = RandomRows(3, 32);
  const std::vector<float> start(3 * group.output_columns(), 2.0f);
  const std::vector<float> plain = Run(group, x, 3), sum = Run(group, x, 3, &start);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t o = 0; o < 24; ++o) {
      const int64_t at = t * group.output_columns() + o;
      EXPECT_NEAR(sum[at], plain[at] + 2.0f, 1e-5f);
    }
  }
}

TEST_F(FormsTest, AnInputTransformIsAppliedOnceForAllThatShareIt) {
  FactoredMatrix q = RandomDense(&source_, "q", 24, 32, kBf16, 1);
  FactoredMatrix k = RandomDense(&source_, "k", 16, 32, kBf16, 2);
  FactoredMatrix v = RandomDense(&source_, "v", 16, 32, kBf16, 3);
  q.input_transforms = k.input_transforms = {RandomHadamard(&source_, "h", 32, false, 6)};
  v.input_transforms = {RandomHadamard(&source_, "other", 32, false, 7)};
  const LinearGroup group = Load({q, k, v}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  int transforms = 0;
  for (const PlanStep& step : group.plan().steps)
    transforms += step.kind == StepKind::kHadamard ? 1 : 0;
  EXPECT_EQ(transforms, 2);
  ExpectMatches(group, 3, F32Roundoff(100));
}

TEST_F(FormsTest, OrdersThatNeedAGatherRun) {
  // Rows of 3 among 15 columns, padded to 16: the input's rows do not follow each other.
  ExpectForm({RandomMpo(&source_, "w", {3, 4}, {5, 3}, 2, kBf16, 1)}, 40, 3);
  // The order of the output legs is not the one that products leave.
  FactoredMatrix m = RandomMpo(&source_, "v", {4, 3}, {4, 8}, 3, kBf16, 9);
  std::swap(m.output_legs[0], m.output_legs[1]);
  AddRandomBias(&source_, &m, 3);
  ExpectForm({m}, 60, 3);
}

TEST_F(FormsTest, Pivoted) {
  // Even and odd ranks (a product may not read the column that it writes), rows that end inside a
  // block of 16, and the sizes of a model.
  for (const int64_t rank : {8, 11, 16, 31}) {
    FactoredMatrix m = RandomPivoted(&source_, "w", 75, 66, rank, kBf16, 1);
    AddRandomBias(&source_, &m, 9);
    ExpectForm({m}, 110, 2);
  }
  const FactoredMatrix q = RandomPivoted(&source_, "q", 192, 160, 48, kBf16, 10);
  const FactoredMatrix k = RandomPivoted(&source_, "k", 64, 160, 20, kBf16, 20);
  ExpectForm({q, k, RandomDense(&source_, "v", 64, 160, kBf16, 30)}, 220, 2);
}

TEST_F(FormsTest, PivotedWithoutAPermutationBesideOtherTermsAndTransforms) {
  FactoredMatrix m = RandomPivoted(&source_, "w", 75, 66, 11, kBf16, 1);
  m.output_transforms.clear();
  AddRandomBias(&source_, &m, 9);
  ExpectForm({m}, 110, 2);
  m.terms.push_back(RandomDense(&source_, "d", 75, 66, kBf16, 30).terms[0]);
  ExpectForm({m}, 200, 2);
  FactoredMatrix rotated = RandomPivoted(&source_, "r", 48, 66, 12, kBf16, 40);
  rotated.output_transforms.push_back(RandomHadamard(&source_, "h", 48, true, 7));
  rotated.terms.push_back(RandomSvd(&source_, "l", 48, 66, 5, kBf16, 50).terms[0]);
  ExpectForm({rotated}, 300, 4);
}

TEST_F(FormsTest, PivotedReadsItsNumbersOnceAndCopiesThePivots) {
  const int64_t m = 192, n = 160, r = 48;
  const FactoredMatrix w = RandomPivoted(&source_, "w", m, n, r, kBf16, 10);
  const LinearGroup group = Load({w}, {.weight_dtype = DType::kBF16, .compute = DType::kBF16});
  EXPECT_EQ(w.NumParameters(), r * (m + n - r));
  EXPECT_EQ(group.plan().weight_bytes(), 2 * r * (m + n - r));
  EXPECT_EQ(group.weight_bytes(), 2 * r * (m + n - r) + m * 4);  // the permutation
  EXPECT_EQ(group.plan().expressions[0], "(x P) C");
  // Materialised, the identity becomes rows of the dense matrix.
  const LinearGroup dense = Load({w}, {.weight_dtype = DType::kF32,
                                       .compute = DType::kF32,
                                       .extra_weight_bytes = 1 << 20,
                                       .orders = {"x [C P]"}});
  EXPECT_EQ(dense.plan().expressions[0], "x [C P]");
  ExpectMatches(dense, 3, F32Roundoff(220));
}

TEST_F(FormsTest, MaterialisedWithinTheExtraBytes) {
  const FactoredMatrix m = RandomMpo(&source_, "w", {8, 6}, {4, 12}, 5, kBf16, 1);
  const LinearGroup group = Load(
      {m}, {.weight_dtype = DType::kF32, .compute = DType::kF32, .extra_weight_bytes = 1 << 20});
  EXPECT_NE(group.dense_core(0).data, nullptr);
  EXPECT_EQ(group.plan().steps.size(), 1u);
  for (const int64_t tokens : kTokens) ExpectMatches(group, tokens, F32Roundoff(100));
}

TEST_F(FormsTest, NoBitDependsOnBatchPassesOrThreads) {
  // Intermediates of 30 kB a token: a pass takes fewer than 300 of them.
  const FactoredMatrix mpo = RandomMpo(&source_, "w", {32, 8}, {32, 8}, 28, kBf16, 1);
  FactoredMatrix qlr = RandomDense(&source_, "q", 48, 256, kInt4, 2);
  qlr.terms.push_back(RandomSvd(&source_, "lr", 48, 256, 16, kBf16, 3).terms[0]);
  const std::vector<FactoredMatrix> matrices = {mpo, qlr};
  int64_t rows = 0;
  std::vector<float> x, together;
  {
    const LinearGroup group = Load(matrices);
    ASSERT_GT(group.plan().steps.size(), 1u);
    rows = group.plan().pass_tokens + 3;
    ASSERT_LT(rows, 1000);
    x = RandomRows(rows, 256);
    together = Run(group, x, rows);
    const int64_t columns = group.output_columns();
    for (const int64_t t : {int64_t{0}, int64_t{1}, rows / 2, rows - 1}) {
      const std::vector<float> alone =
          Run(group, {x.begin() + t * 256, x.begin() + (t + 1) * 256}, 1);
      ASSERT_EQ(std::memcmp(alone.data(), together.data() + t * columns, alone.size() * 4), 0) << t;
    }
  }
  UseDevice({.num_threads = 1});
  const LinearGroup again = Load(matrices);
  const std::vector<float> single = Run(again, x, rows);
  EXPECT_EQ(std::memcmp(single.data(), together.data(), single.size() * 4), 0);
}

}  // namespace
}  // namespace rankine
