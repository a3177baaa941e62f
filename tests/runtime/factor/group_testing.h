// Loading and running of groups in tests, against the oracle of tests/testing/network_testing.h.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "runtime/factor/linear_group.h"
#include "tests/testing/memory_source.h"
#include "tests/testing/network_testing.h"

namespace rankine {

inline constexpr Encoding kBf16 = Encoding::Float(DType::kBF16);
inline constexpr Encoding kInt4 = {.kind = EncodingKind::kAffine,
                                   .bits = 4,
                                   .group = 32,
                                   .scale = ScaleKind::kF16,
                                   .offset = OffsetKind::kPerGroup};

// Rows of exact bf16 numbers, so that both dtypes of compute read the same.
inline std::vector<float> RandomRows(int64_t rows, int64_t cols, uint32_t seed = 7) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * cols);
  for (float& v : x) v = ToFloat(ToBF16(normal(random)));
  return x;
}

class GroupTest : public testing::Test {
 protected:
  void SetUp() override { UseDevice({.num_threads = 2}); }

  void UseDevice(const CpuOptions& options) {
    auto device = MakeCpuDevice(options);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  LinearGroup Load(const std::vector<FactoredMatrix>& matrices,
                   const LinearGroupOptions& options = {}) {
    auto group = LinearGroup::Load(*device_, matrices, options, source_);
    EXPECT_TRUE(group.ok()) << group.status();
    if (!group.ok()) std::abort();  // nothing to test
    return *std::move(group);
  }

  // y [rows, output_columns] of rows of x; pads of all buffers hold what kernels may not use.
  std::vector<float> Run(const LinearGroup& group, const std::vector<float>& x, int64_t rows,
                         const std::vector<float>* start = nullptr,
                         const ContractionPlan* plan = nullptr) {
    const int64_t cols = group.in_features(), stride = RoundUp(cols, kColumnPad);
    const DType dtype = group.compute();
    const auto element = static_cast<int64_t>(SizeOf(dtype));
    std::vector<char> dense(rows * stride * element + 64);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < cols; ++j) {
        const float v = x[t * cols + j];
        char* to = dense.data() + (t * stride + j) * element;
        if (dtype == DType::kBF16) {
          *reinterpret_cast<BF16*>(to) = ToBF16(v);
        } else {
          *reinterpret_cast<float*>(to) = v;
        }
      }
    }
    GroupInput input;
    const MatrixView view{
        .data = dense.data(), .dtype = dtype, .rows = rows, .cols = cols, .stride = stride};
    std::vector<char> records(rows * QuantizedRowBytes(cols));
    if (group.needs_dense()) input.dense = view;
    if (group.needs_quantized()) {
      input.quantized = {.data = records.data(),
                         .dtype = DType::kI8,
                         .rows = rows,
                         .cols = cols,
                         .stride = QuantizedRowBytes(cols)};
      device_->ops().convert({.x = view, .out = input.quantized}, device_->stream());
    }
    std::vector<float> y(rows * group.output_columns(), 0.0f);
    if (start != nullptr) y = *start;
    // NaN in whatever dtype it is read as.
    std::vector<char> workspace(group.workspace_bytes(rows) + 64, static_cast<char>(0xff));
    void* aligned = workspace.data();
    size_t space = workspace.size();
    std::align(64, group.workspace_bytes(rows), aligned, space);
    group.RunPlan(plan == nullptr ? group.plan() : *plan, *device_, input,
                  {.data = y.data(),
                   .rows = rows,
                   .cols = group.output_columns(),
                   .stride = group.output_columns()},
                  aligned, start != nullptr);
    return y;
  }

  // Every element within `roundoff` of the magnitudes that were summed.
  void ExpectMatches(const LinearGroup& group, int64_t rows, double roundoff,
                     const ContractionPlan* plan = nullptr, int64_t rank = 0) {
    const std::vector<float> x = RandomRows(rows, group.in_features());
    const std::vector<float> y = Run(group, x, rows, nullptr, plan);
    std::vector<double> magnitude;
    for (size_t i = 0; i < group.matrices().size(); ++i) {
      const FactoredMatrix& m = group.matrices()[i];
      const std::vector<double> expected = ReferenceOutput(m, source_, x, rows, &magnitude, rank);
      for (int64_t t = 0; t < rows; ++t) {
        const float* row = y.data() + t * group.output_columns() + group.output_column(i);
        for (int64_t o = 0; o < m.out_features; ++o) {
          const int64_t at = t * m.out_features + o;
          ASSERT_NEAR(row[o], expected[at], magnitude[at] * roundoff)
              << m.name << " by " << group.plan().expressions[i] << ", row " << t << ", output "
              << o;
        }
        for (int64_t o = m.out_features; o < RoundUp(m.out_features, kColumnPad); ++o)
          ASSERT_EQ(row[o], 0.0f) << m.name << " pad " << o;
      }
    }
  }

  // ||y - exact|| <= relative * ||exact||, of each matrix over all rows.
  void ExpectNear(const LinearGroup& group, int64_t rows, double relative) {
    const std::vector<float> x = RandomRows(rows, group.in_features());
    const std::vector<float> y = Run(group, x, rows);
    for (size_t i = 0; i < group.matrices().size(); ++i) {
      const FactoredMatrix& m = group.matrices()[i];
      const std::vector<double> expected = ReferenceOutput(m, source_, x, rows, nullptr);
      double error = 0, norm = 0;
      for (int64_t t = 0; t < rows; ++t) {
        const float* row = y.data() + t * group.output_columns() + group.output_column(i);
        for (int64_t o = 0; o < m.out_features; ++o) {
          const double exact = expected[t * m.out_features + o];
          error += (row[o] - exact) * (row[o] - exact);
          norm += exact * exact;
        }
      }
      EXPECT_LE(std::sqrt(error), relative * std::sqrt(norm))
          << m.name << " by " << group.plan().expressions[i];
    }
  }

  std::unique_ptr<Device> device_;
  MemorySource source_;
};

// Sums of at most `terms` products in all steps of a chain, each rounding in f32 (Higham, section
// 3.1), and scales, bias and conversions.
constexpr double F32Roundoff(int64_t terms) { return static_cast<double>(terms + 10) / (1 << 24); }
// `roundings` of activations to the 8 bits of bf16.
constexpr double Bf16Roundoff(int64_t terms, int roundings) {
  return roundings / 256.0 + F32Roundoff(terms);
}

}  // namespace rankine
