// Groups with block-encoded cores: float activations against the oracle of decoded cores within
// rounding, int8 ones within what quantisation of activations costs.
#include "tests/runtime/factor/group_testing.h"
#include "tests/testing/block_testing.h"

namespace rankine {
namespace {

constexpr int64_t kTokens[] = {1, 2, 3, 16, 33};

// Rounding x of a record to multiples of max / 127 moves each by at most max / 254, evenly spread:
// by max / (127 sqrt(12)) in the mean square. A largest of 64 normal numbers is below 4.5 standard
// deviations, so that ||dx|| <= 4.5 / 440 ||x||, and W of random numbers keeps the ratio.
constexpr double kPerQuantisation = 4.5 / (127 * 3.4641);

class BlockCoresTest : public GroupTest {
 protected:
  // `quantisations`: of activations along a chain. `terms`: products summed along it.
  void ExpectForm(const std::vector<FactoredMatrix>& matrices, int64_t terms, int quantisations) {
    const LinearGroup exact =
        Load(matrices, {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false});
    EXPECT_FALSE(exact.needs_quantized());
    const LinearGroup int8 = Load(matrices, {.weight_dtype = DType::kF32, .compute = DType::kF32});
    for (const int64_t tokens : kTokens) {
      ExpectMatches(exact, tokens, F32Roundoff(terms));
      ExpectNear(int8, tokens, quantisations * kPerQuantisation);
    }
  }
};

TEST_F(BlockCoresTest, EveryEncodingDense) {
  for (const Encoding& encoding : AllBlockEncodings()) {
    SCOPED_TRACE(ToString(encoding));
    const FactoredMatrix m = RandomDense(&source_, "w", 37, 256, encoding, 1);
    const LinearGroup exact =
        Load({m}, {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false});
    const LinearGroup int8 = Load({m});
    // nf4 has no integers to multiply.
    EXPECT_EQ(int8.needs_quantized(), encoding.kind != EncodingKind::kNf4);
    EXPECT_NE(int8.needs_dense(), int8.needs_quantized());
    for (const int64_t tokens : {1, 33}) {
      ExpectMatches(exact, tokens, F32Roundoff(256 + 8));
      ExpectNear(int8, tokens, kPerQuantisation);
    }
    if (HasFatalFailure()) return;
  }
}

TEST_F(BlockCoresTest, ColumnsThatFillNoGroup) {
  for (const int64_t in : {96, 80, 33, 600}) {
    FactoredMatrix m = RandomDense(&source_, "w", 21, in, kInt4, 1);
    AddRandomBias(&source_, &m, 2);
    ExpectForm({m}, in + 8, 1);
  }
}

TEST_F(BlockCoresTest, PivotedInBlocks) {
  for (const int64_t rank : {64, 40, 33})
    ExpectForm({RandomPivoted(&source_, "w", 110, 130, rank, kInt4, 1)}, 220, 2);
}

TEST_F(BlockCoresTest, FactorsInBlocks) {
  ExpectForm({RandomSvd(&source_, "w", 70, 130, 64, kInt4, 1)}, 220, 2);
  ExpectForm({RandomSvd(&source_, "v", 70, 130, 40, kInt4, 11),
              RandomDense(&source_, "d", 33, 130, kInt4, 21)},
             220, 2);
}

TEST_F(BlockCoresTest, QuantisedPlusLowRank) {
  for (const Encoding& low_rank : {kBf16, kInt4}) {
    FactoredMatrix m = RandomDense(&source_, "q", 70, 192, kInt4, 1);
    m.terms.push_back(RandomSvd(&source_, "lr", 70, 192, 48, low_rank, 10).terms[0]);
    m.input_transforms = {RandomHadamard(&source_, "h", 192, false, 6)};
    m.output_transforms = {RandomHadamard(&source_, "g", 70, true, 7)};
    AddRandomBias(&source_, &m, 8);
    ExpectForm({m}, 700, 3);
  }
}

TEST_F(BlockCoresTest, TransformsQuantiseAndAddInTheirOwnSteps) {
  const auto kinds = [&](const Encoding& low_rank) {
    FactoredMatrix m = RandomDense(&source_, "q", 72, 192, kInt4, 1);
    m.terms.push_back(RandomSvd(&source_, "lr", 72, 192, 64, low_rank, 10).terms[0]);
    m.input_transforms = {RandomHadamard(&source_, "h", 192, false, 6)};
    m.output_transforms = {RandomHadamard(&source_, "g", 72, true, 7)};
    const LinearGroup group = Load({m}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
    EXPECT_GE(group.plan().steps[0].elementwise.quantized, kFirstIntermediate);
    // The row in f32 is kept where R reads it.
    EXPECT_EQ(group.plan().steps[0].elementwise.only_quantized, low_rank != kBf16);
    EXPECT_EQ(group.plan().steps.back().elementwise.y, kOutputSlot);
    std::vector<StepKind> result;
    for (const PlanStep& step : group.plan().steps) result.push_back(step.kind);
    return result;
  };
  using enum StepKind;
  EXPECT_EQ(kinds(kBf16), (std::vector<StepKind>{kHadamard, kProducts, kProducts, kHadamard}));
  // z = R x is quantised before L reads it.
  EXPECT_EQ(kinds(kInt4),
            (std::vector<StepKind>{kHadamard, kProducts, kConvert, kProducts, kHadamard}));
}

TEST_F(BlockCoresTest, QuantisedTermAccumulatesInOnePassMore) {
  FactoredMatrix m = RandomDense(&source_, "q", 64, 128, kInt4, 1);
  m.terms.push_back(RandomSvd(&source_, "lr", 64, 128, 16, kBf16, 10).terms[0]);
  const LinearGroup group = Load({m});
  // Step 1: Q and R, each with its form of the input; step 2: L adds to the output.
  ASSERT_EQ(group.plan().steps.size(), 2u);
  EXPECT_EQ(group.plan().steps[0].products.size(), 2u);
  EXPECT_TRUE(group.plan().steps[1].products[0].accumulate);
  EXPECT_TRUE(group.needs_dense());
  EXPECT_TRUE(group.needs_quantized());
}

TEST_F(BlockCoresTest, CoresOfAnMpoInBlocks) {
  // C2 sums i2; C1 sums (i1, x1), whose rows of x1 are whole groups.
  ExpectForm({RandomMpo(&source_, "w", {6, 5}, {4, 64}, 32, kInt4, 1)}, 220, 2);
  // Rows of 48 columns of the input are no whole records: they are quantised apart.
  ExpectForm({RandomMpo(&source_, "v", {6, 5}, {4, 48}, 32, kInt4, 11)}, 220, 2);
  ExpectForm({RandomMpo(&source_, "u", {3, 4, 2}, {2, 3, 64}, 32, kInt4, 21)}, 400, 3);
}

TEST_F(BlockCoresTest, RangesOfBlocks) {
  // Rows and columns of a larger core; the columns begin at a group.
  for (const Encoding& encoding : {kInt4, Encoding{.kind = EncodingKind::kNf4, .group = 64},
                                   Encoding{.kind = EncodingKind::kAffine, .bits = 6, .group = 0},
                                   Encoding{.kind = EncodingKind::kAffine,
                                   .bits = 4,
                                   .group = 32,
                                   .scale = ScaleKind::kTwoLevel,
                                   .offset = OffsetKind::kTwoLevel}}) {
    SCOPED_TRACE(ToString(encoding));
    FactoredMatrix m = RandomDense(&source_, "w", 20, 300, kBf16, 1);
    m.terms[0].cores[0] =
        RandomCore(&source_, "shared", "W", {{"o", 7, 20, 40}, {"i", 256, 300, 700}}, encoding, 3);
    ExpectForm({m}, 320, 1);
  }
}

TEST_F(BlockCoresTest, DecodedOnlyWithinTheExtraBytes) {
  FactoredMatrix m = RandomDense(&source_, "w", 64, 48, kBf16, 1);
  m.terms[0].cores[0] = RandomCore(&source_, "w.T", "W", {{"i", 0, 48}, {"o", 0, 64}}, kInt4, 3);
  const auto refused = LinearGroup::Load(*device_, {&m, 1}, {}, source_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  const LinearGroup group = Load(
      {m}, {.weight_dtype = DType::kF32, .compute = DType::kF32, .extra_weight_bytes = 1 << 20});
  ExpectMatches(group, 3, F32Roundoff(60));
}

}  // namespace
}  // namespace rankine
