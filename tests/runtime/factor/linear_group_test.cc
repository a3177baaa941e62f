#include "runtime/factor/linear_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Tensors in memory, rounded to the dtype asked for as a checkpoint does.
class MemorySource : public TensorSource {
 public:
  void Add(const std::string& name, int64_t rows, int64_t cols, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1.0f / std::sqrt(static_cast<float>(cols)));
    std::vector<float> values(rows * cols);
    // Exact in bf16, so that what is tested is the product and not the rounding of the weights.
    for (float& v : values) v = ToFloat(ToBF16(normal(random)));
    tensors_[name] = {cols, std::move(values)};
  }
  void Set(const std::string& name, int64_t index, float value) {
    tensors_.at(name).second[index] = value;
  }
  const std::vector<float>& at(const std::string& name) const { return tensors_.at(name).second; }

  absl::Status ReadRows(const std::string& tensor, int64_t begin, int64_t end, int64_t columns,
                        DType dtype, void* out) const override {
    const auto it = tensors_.find(tensor);
    if (it == tensors_.end()) return absl::NotFoundError(absl::StrCat("tensor ", tensor));
    const auto& [cols, values] = it->second;
    if (cols != columns) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", tensor, " has ", cols, " columns, not ", columns));
    }
    for (int64_t i = 0; i < (end - begin) * cols; ++i) {
      const float v = values[begin * cols + i];
      if (dtype == DType::kF32) static_cast<float*>(out)[i] = v;
      if (dtype == DType::kBF16) static_cast<BF16*>(out)[i] = ToBF16(v);
      if (dtype == DType::kF16) static_cast<F16*>(out)[i] = ToF16(v);
    }
    return absl::OkStatus();
  }

 private:
  std::map<std::string, std::pair<int64_t, std::vector<float>>> tensors_;
};

class LinearGroupTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = MakeCpuDevice({.num_threads = 2});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  FactoredMatrix Dense(const std::string& name, int64_t out, int64_t in, bool bias = false) {
    source_.Add(name + ".weight", out, in, ++seed_);
    if (bias) source_.Add(name + ".bias", 1, out, ++seed_);
    return DenseMatrix(name, out, in, Encoding::Float(DType::kBF16), name + ".weight",
                       bias ? name + ".bias" : "");
  }

  FactoredMatrix Svd(const std::string& name, int64_t out, int64_t in, int64_t rank,
                     bool bias = false) {
    source_.Add(name + ".U", out, rank, ++seed_);
    source_.Add(name + ".S", 1, rank, ++seed_);
    source_.Add(name + ".V", rank, in, ++seed_);
    if (bias) source_.Add(name + ".bias", 1, out, ++seed_);
    return SvdMatrix(name, out, in, rank, Encoding::Float(DType::kBF16),
                     bias ? name + ".bias" : "");
  }

  LinearGroup Load(const std::vector<FactoredMatrix>& matrices, const LinearGroupOptions& options) {
    auto group = LinearGroup::Load(*device_, matrices, options, source_);
    EXPECT_TRUE(group.ok()) << group.status();
    return *std::move(group);
  }

  // x of every row; y [rows, output_columns].
  std::vector<float> Run(const LinearGroup& group, const std::vector<float>& x, int64_t rows,
                         const std::vector<float>* start = nullptr) {
    const int64_t cols = group.in_features(), stride = RoundUp(cols, 16);
    std::vector<float> input(rows * stride, 0.0f), y(rows * group.output_columns(), 0.0f);
    std::vector<BF16> input16(rows * stride, BF16{0});
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < cols; ++j) {
        input[t * stride + j] = x[t * cols + j];
        input16[t * stride + j] = ToBF16(x[t * cols + j]);
      }
    }
    if (start != nullptr) y = *start;
    std::vector<float> z(rows * group.intermediate_columns() + 16);
    const bool bf16 = group.compute() == DType::kBF16;
    const MatrixView x_view{.data = bf16 ? static_cast<void*>(input16.data()) : input.data(),
                            .dtype = group.compute(),
                            .rows = rows,
                            .cols = cols,
                            .stride = stride};
    const MatrixView y_view{.data = y.data(),
                            .rows = rows,
                            .cols = group.output_columns(),
                            .stride = group.output_columns()};
    group.Run(*device_, x_view, y_view, z.data(), start != nullptr);
    return y;
  }

  // U (S (V x)) + b, or W x + b, in double, with the sum of absolute products that rounding errors
  // scale with.
  void Reference(const FactoredMatrix& m, const float* x, std::vector<double>* y,
                 std::vector<double>* magnitude) {
    y->assign(m.out_features, 0);
    magnitude->assign(m.out_features, 0);
    if (m.terms[0].cores.size() == 1) {
      const auto& w = source_.at(m.name + ".weight");
      for (int64_t o = 0; o < m.out_features; ++o) {
        for (int64_t i = 0; i < m.in_features; ++i) {
          const double product = static_cast<double>(w[o * m.in_features + i]) * x[i];
          (*y)[o] += product;
          (*magnitude)[o] += std::abs(product);
        }
      }
    } else {
      const auto &u = source_.at(m.name + ".U"), &s = source_.at(m.name + ".S"),
                 &v = source_.at(m.name + ".V");
      const auto rank = static_cast<int64_t>(s.size());
      for (int64_t r = 0; r < rank; ++r) {
        double z = 0, z_magnitude = 0;
        for (int64_t i = 0; i < m.in_features; ++i) {
          z += static_cast<double>(v[r * m.in_features + i]) * x[i];
          z_magnitude += std::abs(static_cast<double>(v[r * m.in_features + i]) * x[i]);
        }
        for (int64_t o = 0; o < m.out_features; ++o) {
          (*y)[o] += u[o * rank + r] * s[r] * z;
          (*magnitude)[o] += std::abs(u[o * rank + r] * s[r]) * z_magnitude;
        }
      }
    }
    if (!m.bias_tensor.empty()) {
      for (int64_t o = 0; o < m.out_features; ++o) {
        (*y)[o] += source_.at(m.bias_tensor)[o];
        (*magnitude)[o] += std::abs(source_.at(m.bias_tensor)[o]);
      }
    }
  }

  void ExpectMatches(const LinearGroup& group, int64_t rows, double unit_roundoff) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> x(rows * group.in_features());
    for (float& v : x) v = ToFloat(ToBF16(normal(random)));
    const std::vector<float> y = Run(group, x, rows);
    std::vector<double> expected, magnitude;
    for (int64_t t = 0; t < rows; ++t) {
      for (size_t i = 0; i < group.matrices().size(); ++i) {
        const FactoredMatrix& m = group.matrices()[i];
        Reference(m, x.data() + t * group.in_features(), &expected, &magnitude);
        for (int64_t o = 0; o < m.out_features; ++o) {
          const float got =
              y[t * group.output_columns() + group.output_column(static_cast<int>(i)) + o];
          ASSERT_NEAR(got, expected[o], magnitude[o] * unit_roundoff)
              << m.name << " row " << t << " output " << o;
        }
      }
    }
  }

  std::unique_ptr<Device> device_;
  MemorySource source_;
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
  EXPECT_EQ(group.plan().steps[0].products[0].n, 32 + 16);
  EXPECT_EQ(group.plan().steps[1].products.size(), 2u);
}

TEST_F(LinearGroupTest, NoDenseCopyOfAFactoredMatrixExists) {
  const LinearGroup group = Load({Svd("w", 512, 512, 64)}, {});
  EXPECT_LT(group.weight_bytes(), 512 * 512 * 2 / 3);
  EXPECT_EQ(group.dense_core(0), nullptr);
}

TEST_F(LinearGroupTest, MaterialisedMatrixMatchesItsFactors) {
  // More numbers than the dense matrix: the planner folds it.
  const LinearGroup group =
      Load({Svd("w", 32, 24, 20, true)}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  EXPECT_NE(group.dense_core(0), nullptr);
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
  device_->ops().gather_rows({.core = *group.dense_core(0),
                              .ids = ids.data(),
                              .num_ids = 3,
                              .out = {.data = rows.data(), .rows = 3, .cols = 24, .stride = 32}},
                             device_->stream());
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 24; ++j)
      EXPECT_EQ(rows[i * 32 + j], source_.at("emb.weight")[ids[i] * 24 + j]);
  }
}

TEST_F(LinearGroupTest, TensorWiderThanTheMatrixIsNamed) {
  for (const char* wide : {".U", ".S", ".V"}) {
    const FactoredMatrix m = Svd("w", 64, 48, 10);
    source_.Add(std::string("w") + wide, 64, 100, 1);
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
  const DeviceProfile profile{
      .read_bytes_per_second = 1e9, .bf16_flops_per_second = 1e12, .step_seconds = 1e-6};
  const PlanPrediction one = group.plan().Predict(1, profile);
  EXPECT_EQ(one.flops, 2 * 64 * (512 + 256));
  // Weights, x, z written and read (bf16), y (f32).
  EXPECT_EQ(one.bytes, 2 * 64 * (512 + 256) + 256 * 2 + 64 * 2 * 2 + 512 * 4);
  EXPECT_NEAR(one.microseconds, static_cast<double>(one.bytes) * 1e-3 + 2, 1e-6);
  const PlanPrediction many = group.plan().Predict(512, profile);
  EXPECT_EQ(many.flops, 512 * one.flops);
}

}  // namespace
}  // namespace rankine
