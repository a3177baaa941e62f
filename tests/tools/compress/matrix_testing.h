// Matrices for the tests of tools/compress: random ones, and those of golden files.
#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/compress/linalg.h"
#include "tools/compress/statistics.h"

namespace rankine::testing {

inline Matrix64 NormalMatrix(int64_t rows, int64_t cols, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Matrix64 a(rows, cols);
  for (double& v : a.values) v = normal(random);
  return a;
}

// Of inputs that are mixed and of different sizes; singular where there are fewer tokens than
// features. The features of `dead` are always zero.
inline Moments MixedMoments(int64_t n, int64_t tokens, uint64_t seed,
                            const std::vector<int64_t>& dead = {}) {
  Matrix64 x = MatrixProduct(NormalMatrix(n, n, seed), NormalMatrix(n, tokens, seed + 1));
  const Matrix64 size = NormalMatrix(n, 1, seed + 2);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < tokens; ++t) x(i, t) *= std::exp(size(i, 0));
  }
  for (const int64_t i : dead) {
    for (int64_t t = 0; t < tokens; ++t) x(i, t) = 0;
  }
  Moments moments{.tokens = tokens, .second = MatrixProduct(x, Transposed(x))};
  for (double& v : moments.second.values) v /= static_cast<double>(tokens);
  moments.mean.resize(n);
  moments.mean_absolute.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < tokens; ++t) {
      moments.mean[i] += x(i, t) / static_cast<double>(tokens);
      moments.mean_absolute[i] += std::abs(x(i, t)) / static_cast<double>(tokens);
    }
  }
  return moments;
}

// Of inputs of different sizes that are independent: 3 n tokens.
inline Moments IndependentMoments(int64_t n, uint64_t seed) {
  Matrix64 x = NormalMatrix(n, 3 * n, seed);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < x.cols; ++t) x(i, t) *= 1 + static_cast<double>(i % 7);
  }
  Moments moments{.tokens = x.cols, .second = Matrix64(n, n)};
  moments.mean.resize(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t t = 0; t < x.cols; ++t) {
        moments.second(i, j) += x(i, t) * x(j, t) / static_cast<double>(x.cols);
      }
    }
  }
  return moments;
}

inline Matrix64 MatrixOfJson(const nlohmann::json& j) {
  Matrix64 a(j.size(), j.at(0).size());
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) a(i, k) = j.at(i).at(k).get<double>();
  }
  return a;
}

inline nlohmann::json GoldenOf(const std::string& name) {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/compress/" + name);
  return nlohmann::json::parse(in);
}

// ||a - b||_F / ||b||_F
inline double RelativeDistance(const Matrix64& a, const Matrix64& b) {
  return std::sqrt(SquaredNorm(Difference(a, b)) / SquaredNorm(b));
}

}  // namespace rankine::testing
