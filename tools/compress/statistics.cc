#include "tools/compress/statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

float ValueAt(const MatrixView& x, int64_t row, int64_t col) {
  return x.dtype == DType::kF32 ? x.Row<float>(row)[col] : ToFloat(x.Row<BF16>(row)[col]);
}

// Rows [first, first + count) of x.
MatrixView RowsOf(MatrixView x, int64_t first, int64_t count) {
  x.data = static_cast<char*>(x.data) + first * x.stride * static_cast<int64_t>(SizeOf(x.dtype));
  x.rows = count;
  return x;
}

}  // namespace

const Moments* LayerStatistics::Find(const std::string& linear) const {
  for (const GroupStatistics& g : groups) {
    if (std::find(g.linears.begin(), g.linears.end(), linear) != g.linears.end()) return &g.moments;
  }
  return nullptr;
}

MomentAccumulator::MomentAccumulator(int64_t features, const OpTable& ops, Stream stream,
                                     int64_t group_tokens)
    : features_(features),
      stream_(stream),
      group_tokens_(group_tokens),
      products_(features, ops, stream),
      sum_(features, features),
      absolute_(features) {}

void MomentAccumulator::Add(const MatrixView& x) {
  RK_CHECK(x.cols == features_);
  for (int64_t row = 0; row < x.rows; row += kMomentChunk) {
    AddChunk(RowsOf(x, row, std::min(kMomentChunk, x.rows - row)));
  }
}

// The chunk's tokens, a block of 16 features at a time, to the totals of their groups.
void MomentAccumulator::AddToMeans(int64_t block, int64_t rows) {
  const int64_t first = block * kBlockRows, count = std::min(kBlockRows, features_ - first);
  const float* values = products_.Block(block);
  double total[kBlockRows] = {}, absolute[kBlockRows] = {};  // zeros beyond the last feature
  std::copy_n(absolute_.data() + first, count, absolute);
  for (int64_t t = 0; t < rows;) {
    const int64_t group = group_tokens_ > 0 ? (tokens_ + t) / group_tokens_ : 0;
    const int64_t end = group_tokens_ > 0 ? (group + 1) * group_tokens_ - tokens_ : rows;
    double* of_group = total_.data() + group * features_ + first;
    std::copy_n(of_group, count, total);
    for (; t < std::min(rows, end); ++t) {
      for (int64_t i = 0; i < kBlockRows; ++i) {
        const double value = values[t * kBlockRows + i];
        total[i] += value;
        absolute[i] += std::abs(value);
      }
    }
    std::copy_n(total, count, of_group);
  }
  std::copy_n(absolute, count, absolute_.data() + first);
}

void MomentAccumulator::AddChunk(const MatrixView& x) {
  products_.AddSquare(x, &sum_);
  const int64_t groups = group_tokens_ > 0 ? CeilDiv(tokens_ + x.rows, group_tokens_) : 1;
  total_.resize(groups * features_);
  WorkQueue queue(products_.num_blocks(), 1);
  OnThreads(stream_, [&](int) {
    for (int64_t block = 0, end = 0; queue.Next(&block, &end);) AddToMeans(block, x.rows);
  });
  tokens_ += x.rows;
}

absl::StatusOr<Moments> MomentAccumulator::Finish() const {
  if (tokens_ == 0) return absl::InvalidArgumentError("no calibration tokens were seen");
  Moments moments{.tokens = tokens_, .second = sum_, .mean_absolute = absolute_};
  const double scale = 1.0 / static_cast<double>(tokens_);
  moments.mean.resize(features_);
  const auto groups = static_cast<int64_t>(total_.size()) / features_;
  moments.group_means = Matrix64(groups, features_);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t before = g * group_tokens_;
    const int64_t count = group_tokens_ > 0 ? std::min(group_tokens_, tokens_ - before) : tokens_;
    moments.group_tokens.push_back(count);
    for (int64_t i = 0; i < features_; ++i) {
      const double total = total_[g * features_ + i];
      moments.mean[i] += total * scale;
      moments.group_means(g, i) = total / static_cast<double>(count);
    }
  }
  for (double& m : moments.mean_absolute) m *= scale;
  for (int64_t i = 0; i < features_; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const double value = sum_(i, j) * scale;
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat("activations of input feature ", i, " are not finite"));
      }
      moments.second(i, j) = value;
      moments.second(j, i) = value;
    }
  }
  return moments;
}

CrossAccumulator::CrossAccumulator(int64_t features, const OpTable& ops, Stream stream)
    : products_(features, ops, stream), sum_(features, features), total_(features) {}

void CrossAccumulator::Add(const MatrixView& a, const MatrixView& b) {
  products_.AddCross(a, b, &sum_);
  for (int64_t t = 0; t < a.rows; ++t) {
    for (int64_t i = 0; i < a.cols; ++i) total_[i] += ValueAt(a, t, i);
  }
  tokens_ += a.rows;
}

Matrix64 CrossAccumulator::Finish() const {
  Matrix64 result = sum_;
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (double& v : result.values) v *= scale;
  return result;
}

std::vector<double> CrossAccumulator::first_mean() const {
  std::vector<double> mean = total_;
  const double scale = 1.0 / static_cast<double>(tokens_);
  for (double& v : mean) v *= scale;
  return mean;
}

StatisticsObserver::StatisticsObserver(const std::vector<std::vector<std::string>>& groups,
                                       const std::vector<int64_t>& features, const OpTable& ops,
                                       Stream stream, int64_t group_tokens)
    : groups_(groups) {
  RK_CHECK(groups.size() == features.size());
  for (int64_t n : features) accumulators_.emplace_back(n, ops, stream, group_tokens);
}

void StatisticsObserver::OnGroupInput(const std::string& group, const MatrixView& x) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i][0] == group) return accumulators_[i].Add(x);
  }
  RK_CHECK(!"a group that was not announced");
}

absl::StatusOr<LayerStatistics> StatisticsObserver::Finish() const {
  LayerStatistics result;
  for (size_t i = 0; i < groups_.size(); ++i) {
    auto moments = accumulators_[i].Finish();
    if (!moments.ok()) {
      return absl::Status(moments.status().code(), absl::StrCat("calibration of ", groups_[i][0],
                                                                ": ", moments.status().message()));
    }
    result.groups.push_back({.linears = groups_[i], .moments = *std::move(moments)});
  }
  return result;
}

}  // namespace rankine
