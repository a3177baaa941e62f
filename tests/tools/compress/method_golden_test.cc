// Every method of factors against NumPy (tests/testing/generators/methods.py), and what theory says
// about them.
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/compress/dense_product.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/methods/method.h"

namespace rankine {
namespace {

const Encoding kF32 = Encoding::Float(DType::kF32);

Matrix64 ReadMatrix(const nlohmann::json& j) {
  Matrix64 a(j.size(), j.at(0).size());
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) a(i, k) = j.at(i).at(k).get<double>();
  }
  return a;
}

struct Golden {
  explicit Golden(const nlohmann::json& source) : j(source), w(ReadMatrix(j.at("w"))) {
    moments = {.tokens = j.at("tokens"),
               .second = ReadMatrix(j.at("h")),
               .mean = j.at("mean"),
               .mean_absolute = j.at("mean_absolute"),
               .group_means = ReadMatrix(j.at("group_means")),
               .group_tokens = j.at("group_tokens")};
    prefix = moments;
    prefix.second = ReadMatrix(j.at("prefix_h"));
    prefix.cross = ReadMatrix(j.at("cross"));
    bias = j.at("bias").get<std::vector<double>>();
    fisher = j.at("fisher").get<std::vector<double>>();
  }

  absl::StatusOr<Factorization> Run(const std::string& name,
                                    const OptionValues& values = {}) const {
    const Method& method = **FindMethod(name);
    const MethodSettings settings = *MethodSettings::Create(name, method.options, values);
    return method.factorize({.name = "l",
                             .weight = &w,
                             .moments = &moments,
                             .prefix_moments = &prefix,
                             .fisher = &fisher,
                             .bias = bias.empty() ? nullptr : &bias,
                             .bias_tensor = bias.empty() ? "" : "l.bias",
                             .budget = {.rank = j.at("rank")},
                             .encoding = kF32,
                             .settings = &settings});
  }

  double Error(const Factorization& f) const {
    std::vector<double> change = f.bias;
    for (size_t i = 0; i < std::min(change.size(), bias.size()); ++i) change[i] -= bias[i];
    const Matrix64 delta = Difference(w, *DenseProduct(f.matrix, StoredTensorSource(f.tensors)));
    return WeightedError(w, delta, bias, change, moments);
  }

  nlohmann::json j;
  Matrix64 w;
  Moments moments, prefix;
  std::vector<double> bias, fisher;
};

std::vector<Golden> Goldens() {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/compress/methods.json");
  std::vector<Golden> goldens;
  for (const auto& j : nlohmann::json::parse(in)) goldens.emplace_back(j);
  EXPECT_GE(goldens.size(), 4u);
  return goldens;
}

// Factors are stored in f32: each of three rounds by 2^-24, and slices that cancel in the product
// make that larger by the ratio of their lengths to its own, below 100 here.
constexpr double kTolerance = 3 * 0x1p-24 * 100;

void ExpectProduct(const Golden& g, const Factorization& f, const std::string& key) {
  const Matrix64 expected = ReadMatrix(g.j.at(key));
  const Matrix64 product = *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
  EXPECT_LT(std::sqrt(SquaredNorm(Difference(product, expected)) / SquaredNorm(expected)),
            kTolerance);
}

TEST(MethodGoldenTest, EqualNumPy) {
  for (const Golden& g : Goldens()) {
    for (const char* name :
         {"svd", "svd-llm", "asvd", "fwsvd", "lord", "bolaco", "basel-ranking", "svd-llm-u"}) {
      SCOPED_TRACE(g.j.at("name").get<std::string>() + " " + name);
      const auto f = g.Run(name);
      ASSERT_TRUE(f.ok()) << f.status();
      EXPECT_EQ(f->rank, g.j.at("rank").get<int64_t>());
      ExpectProduct(g, *f, name);
      if (!g.j.contains(std::string(name) + "_bias")) {
        EXPECT_TRUE(f->bias.empty());
        continue;
      }
      const std::vector<double> bias = g.j.at(std::string(name) + "_bias");
      ASSERT_EQ(f->bias.size(), bias.size());
      EXPECT_EQ(f->matrix.bias_tensor, "l.bias");
      for (size_t i = 0; i < bias.size(); ++i) {
        EXPECT_NEAR(f->bias[i], bias[i], 1e-6 * (1 + std::abs(bias[i])));
      }
    }
  }
}

TEST(MethodGoldenTest, LordWithoutTheMeanIsSvdLlm) {
  for (const Golden& g : Goldens()) {
    const auto lord = g.Run("lord", {{"mean", "0"}}), svd_llm = g.Run("svd-llm");
    ASSERT_TRUE(lord.ok() && svd_llm.ok());
    ASSERT_EQ(lord->tensors.size(), svd_llm->tensors.size());
    for (size_t i = 0; i < lord->tensors.size(); ++i) {
      EXPECT_EQ(lord->tensors[i].bytes, svd_llm->tensors[i].bytes);
    }
    EXPECT_TRUE(lord->bias.empty());
  }
}

// Same H, same rank, f32: nothing has less weighted error than svd-llm but what adds a bias.
TEST(MethodGoldenTest, NoMatrixOfThatRankBeatsSvdLlmAndTheMeanHelps) {
  for (const Golden& g : Goldens()) {
    const double best = g.Error(*g.Run("svd-llm"));
    for (const char* name : {"svd", "asvd", "fwsvd", "basel-ranking", "svd-llm-u"}) {
      EXPECT_GE(g.Error(*g.Run(name)), best * (1 - kTolerance)) << name;
    }
    EXPECT_LE(g.Error(*g.Run("lord")), best * (1 + kTolerance));
    EXPECT_LE(g.Error(*g.Run("lord")), g.Error(*g.Run("bolaco")) * (1 + kTolerance))
        << "the overall mean is the best bias, the overall covariance the best basis beside it";
  }
}

// With the dense model's own inputs behind it the update changes nothing.
TEST(MethodGoldenTest, AnUpdateWithoutAPrefixIsSvdLlm) {
  for (Golden g : Goldens()) {
    g.prefix.second = g.prefix.cross = g.moments.second;
    const auto f = g.Run("svd-llm-u");
    ASSERT_TRUE(f.ok()) << f.status();
    ExpectProduct(g, *f, "svd-llm");
  }
}

// The map of least squares from x' to W x at full rank, but for the ridge.
TEST(MethodGoldenTest, ADenseTargetIsNearerToTheDenseOutputs) {
  for (const Golden& g : Goldens()) {
    // E|W x - W' x'|^2 = const - 2 tr(W' cross^T W^T) + tr(W' H1 W'^T)
    const auto distance = [&](const Factorization& f) {
      const Matrix64 p = *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
      const Matrix64 wc = MatrixProduct(g.w, g.prefix.cross);
      double inner = 0;
      for (size_t i = 0; i < p.values.size(); ++i) inner += p.values[i] * wc.values[i];
      return SquaredWeightedNorm(p, g.prefix.second) - 2 * inner;
    };
    const auto dense = g.Run("svd-llm-u", {{"target", "dense"}}), paper = g.Run("svd-llm-u");
    ASSERT_TRUE(dense.ok() && paper.ok()) << dense.status();
    const double all = SquaredWeightedNorm(g.w, g.moments.second);
    EXPECT_LT(distance(*dense), distance(*paper) + 0.01 * all);
    EXPECT_EQ(dense->matrix.sorted_leg, "r");
    EXPECT_EQ(paper->matrix.sorted_leg, "");
  }
  EXPECT_FALSE(
      MethodSettings::Create("m", (*FindMethod("svd-llm-u"))->options, {{"target", "moon"}}).ok());
}

TEST(MethodGoldenTest, RankOfMinSideIsExact) {
  for (const Golden& g : Goldens()) {
    Golden full = g;
    full.j["rank"] = std::min(g.w.rows, g.w.cols);
    for (const char* name :
         {"svd", "svd-llm", "asvd", "fwsvd", "lord", "bolaco", "basel-ranking"}) {
      EXPECT_LT(full.Error(*full.Run(name)), kTolerance) << name;
    }
  }
}

TEST(MethodGoldenTest, SingularMomentsAreNoError) {
  for (Golden g : Goldens()) {
    // One token: H has rank one; and a feature that never occurs.
    const int64_t n = g.w.cols;
    for (Moments* m : {&g.moments, &g.prefix}) {
      m->mean[0] = m->mean_absolute[0] = 0;
      for (int64_t i = 0; i < n; ++i) {
        m->group_means = Matrix64(1, n);
        for (int64_t j = 0; j < n; ++j) m->second(i, j) = m->mean[i] * m->mean[j];
      }
      m->group_tokens = {m->tokens};
      m->cross = m->second;
    }
    g.fisher[0] = 0;
    for (const char* name : {"svd-llm", "asvd", "fwsvd", "bolaco", "basel-ranking", "svd-llm-u"}) {
      const auto f = g.Run(name);
      ASSERT_TRUE(f.ok()) << name << f.status();
      EXPECT_TRUE(std::isfinite(g.Error(*f))) << name;
    }
    EXPECT_LT(g.Error(*g.Run("svd-llm")), 1e-5) << "rank one is all that this H sees";
  }
}

}  // namespace
}  // namespace rankine
