#include "runtime/factor/linear_group.h"

#include "absl/strings/str_cat.h"
#include "tests/runtime/factor/group_testing.h"

namespace rankine {
namespace {

class LinearGroupTest : public GroupTest {
 protected:
  FactoredMatrix Dense(const std::string& name, int64_t out, int64_t in, bool bias = false) {
    FactoredMatrix m = RandomDense(&source_, name, out, in, kBf16, ++seed_);
    if (bias) AddRandomBias(&source_, &m, ++seed_);
    return m;
  }
  FactoredMatrix Svd(const std::string& name, int64_t out, int64_t in, int64_t rank,
                     bool bias = false) {
    FactoredMatrix m = RandomSvd(&source_, name, out, in, rank, kBf16, seed_ += 5);
    if (bias) AddRandomBias(&source_, &m, ++seed_);
    return m;
  }

  uint32_t seed_ = 0;
};

// Two chained sums of at most 100 terms in f32: at most 2 * 100 roundings of 2^-24 each, with the
// scale and the bias.
constexpr double kF32Roundoff = 210.0 / (1 << 24);
// In bf16 the intermediate is rounded once more, to 8 bits.
constexpr double kBf16Roundoff = 1.0 / 256 + kF32Roundoff;

TEST_F(LinearGroupTest, DenseFactoredAndMixedGroupsMatchDoublePrecision) {
  const std::vector<std::vector<FactoredMatrix>> groups = {
      {Dense("a", 40, 33, true)},
      {Svd("b", 40, 33, 7)},
      {Svd("c", 40, 60, 9, true), Svd("d", 17, 60, 5), Svd("e", 16, 60, 16, true)},
      {Svd("f", 40, 60, 9), Dense("g", 17, 60, true), Svd("h", 3, 60, 1)},
  };
  for (const auto& matrices : groups) {
    for (const DType weight : {DType::kF32, DType::kBF16}) {
      const LinearGroup f32 = Load(matrices, {.weight_dtype = weight, .compute = DType::kF32});
      const LinearGroup bf16 = Load(matrices, {.weight_dtype = weight, .compute = DType::kBF16});
      for (const int64_t rows : {1, 2, 19}) {
        ExpectMatches(f32, rows, kF32Roundoff);
        ExpectMatches(bf16, rows, kBf16Roundoff);
      }
    }
  }
}

TEST_F(LinearGroupTest, FactorsOfAGroupStackIntoOneProduct) {
  const LinearGroup group =
      Load({Svd("q", 64, 48, 20), Svd("k", 32, 48, 10), Dense("v", 32, 48)}, {});
  ASSERT_EQ(group.plan().steps.size(), 2u);
  // Step 1: the stacked V of q and k (blocks of 16 each), and v's dense product. Step 2: the U of q
  // and of k.
  ASSERT_EQ(group.plan().steps[0].products.size(), 2u);
  EXPECT_EQ(group.plan().steps[0].products[0].n, 32 + 10);
  EXPECT_EQ(group.plan().steps[1].products.size(), 2u);
}

TEST_F(LinearGroupTest, NoDenseCopyOfAFactoredMatrixExists) {
  const LinearGroup group = Load({Svd("w", 512, 512, 64)}, {});
  EXPECT_LT(group.weight_bytes(), 512 * 512 * 2 / 3);
  EXPECT_EQ(group.dense_core(0).data, nullptr);
}

TEST_F(LinearGroupTest, MaterialisedMatrixMatchesItsFactors) {
  // More numbers than the dense matrix: the planner folds it.
  const LinearGroup group =
      Load({Svd("w", 32, 24, 20, true)}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  EXPECT_NE(group.dense_core(0).data, nullptr);
  ExpectMatches(group, 5, kF32Roundoff);
}

TEST_F(LinearGroupTest, ResultsOfARowDoNotDependOnTheBatch) {
  const LinearGroup group = Load({Svd("q", 64, 48, 20), Dense("v", 32, 48)}, {});
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(40 * 48);
  for (float& v : x) v = normal(random);
  const std::vector<float> together = Run(group, x, 40);
  for (int64_t t = 0; t < 40; ++t) {
    const std::vector<float> alone = Run(group, {x.begin() + t * 48, x.begin() + (t + 1) * 48}, 1);
    ASSERT_EQ(
        std::memcmp(alone.data(), together.data() + t * group.output_columns(), alone.size() * 4),
        0)
        << t;
  }
}

TEST_F(LinearGroupTest, AccumulatesIntoTheResidual) {
  const LinearGroup group =
      Load({Svd("o", 48, 48, 11, true)}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  std::vector<float> x(3 * 48, 0.25f), start(3 * group.output_columns(), 2.0f);
  const std::vector<float> plain = Run(group, x, 3);
  const std::vector<float> sum = Run(group, x, 3, &start);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(sum[i], plain[i] + 2.0f, 4e-6f);
}

TEST_F(LinearGroupTest, SharedDenseCoreIsAlsoAnEmbedding) {
  const LinearGroup group = Load({Dense("emb", 50, 24)}, {.weight_dtype = DType::kBF16});
  std::vector<int32_t> ids = {49, 0, 7};
  std::vector<float> rows(3 * 32);
  device_->ops().gather_rows({.core = group.dense_core(0),
                              .ids = ids.data(),
                              .num_ids = 3,
                              .out = {.data = rows.data(), .rows = 3, .cols = 24, .stride = 32}},
                             device_->stream());
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 24; ++j) EXPECT_EQ(rows[i * 32 + j], source_.at("emb.W")[ids[i] * 24 + j]);
  }
}

TEST_F(LinearGroupTest, TensorWiderThanTheMatrixIsNamed) {
  for (const char* wide : {".U", ".S", ".V"}) {
    const FactoredMatrix m = Svd("w", 64, 48, 10);
    source_.AddRandom(std::string("w") + wide, 64, 100, 1);
    const auto group = LinearGroup::Load(*device_, {&m, 1}, {}, source_);
    EXPECT_THAT(std::string(group.status().message()),
                testing::HasSubstr(absl::StrCat("w", wide, " has 100 columns")));
  }
}

TEST_F(LinearGroupTest, MaterialisedProductThatOverflowsIsNamed) {
  const FactoredMatrix m = Svd("model.big", 32, 24, 20);
  source_.Set("model.big.U", 3 * 20 + 1, 6e4f);
  source_.Set("model.big.S", 1, 6e4f);
  const auto f16 = LinearGroup::Load(*device_, {&m, 1}, {.weight_dtype = DType::kF16}, source_);
  EXPECT_EQ(f16.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(f16.status().message()),
              testing::AllOf(testing::HasSubstr("model.big"), testing::HasSubstr("row 3"),
                             testing::HasSubstr("does not fit in f16")));
  EXPECT_TRUE(LinearGroup::Load(*device_, {&m, 1}, {.weight_dtype = DType::kF32}, source_).ok());
}

TEST_F(LinearGroupTest, MissingTensorIsNamed) {
  const FactoredMatrix m = SvdMatrix("model.lost", 8, 8, 2, Encoding::Float(DType::kBF16));
  const auto group = LinearGroup::Load(*device_, {&m, 1}, {}, source_);
  EXPECT_THAT(std::string(group.status().message()), testing::HasSubstr("model.lost"));
}

TEST_F(LinearGroupTest, PredictionsAddUpBytesAndOperations) {
  const LinearGroup group = Load({Svd("w", 512, 256, 64)}, {});
  const DeviceProfile profile{.read_bytes_per_second = 1e9,
                              .bf16_flops_per_second = 1e12,
                              .step_seconds = 1e-6,
                              .l2_bytes_per_second = 1e10};
  const PlanPrediction one = group.plan().Predict(1, profile);
  EXPECT_EQ(one.flops, 2 * 64 * (512 + 256));
  // Weights from memory; x, z written and read (bf16), y (f32) in the caches.
  const int64_t weights = 2 * 64 * (512 + 256);
  EXPECT_EQ(one.bytes, weights + 256 * 2 + 64 * 2 * 2 + 512 * 4);
  EXPECT_NEAR(
      one.microseconds,
      static_cast<double>(weights) * 1e-3 + static_cast<double>(one.bytes - weights) * 1e-4 + 2,
      1e-6);
  const PlanPrediction many = group.plan().Predict(512, profile);
  EXPECT_EQ(many.flops, 512 * one.flops);
}

}  // namespace
}  // namespace rankine
