#include "tools/compress/statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Edge of the square blocks of H that are a thread's unit of work: large enough that a product of
// 256 x 512 x 256 runs at the speed of a large one, small enough that two panels (1 MiB) stay in
// the second-level cache.
constexpr int64_t kBlock = 256;

// The pairs (row, column) of blocks on and below the diagonal, in order of rows.
std::pair<int64_t, int64_t> LowerBlock(int64_t index) {
  int64_t row = 0;
  while (index > row) index -= ++row;
  return {row, index};
}

void CopyRow(const MatrixView& x, int64_t row, float* out) {
  if (x.dtype == DType::kF32) {
    std::copy_n(x.Row<float>(row), x.cols, out);
    return;
  }
  const BF16* in = x.Row<BF16>(row);
  for (int64_t i = 0; i < x.cols; ++i) out[i] = ToFloat(in[i]);
}

// sum += a^T b in the block whose first row and column are i and j.
void AddBlock(const Eigen::Map<const FloatRows>& a, const Eigen::Map<const FloatRows>& b, int64_t i,
              int64_t j, FloatRows* product, Matrix64* sum) {
  const int64_t height = std::min<int64_t>(kBlock, a.cols() - i);
  const int64_t width = std::min<int64_t>(kBlock, b.cols() - j);
  product->noalias() = a.middleCols(i, height).transpose() * b.middleCols(j, width);
  for (int64_t r = 0; r < height; ++r) {
    double* out = sum->Row(i + r) + j;
    for (int64_t c = 0; c < width; ++c) out[c] += (*product)(r, c);
  }
}

// `work` on blocks [0, count) in parallel, each with a thread's own scratch.
template <class Work>
void ForBlocks(Stream stream, int64_t count, const Work& work) {
  WorkQueue queue(count, 1);
  auto run = [&](int) {
    FloatRows product;
    for (int64_t index = 0, end = 0; queue.Next(&index, &end);) work(index, &product);
  };
  if (stream.pool == nullptr) {
    run(0);
  } else {
    stream.pool->Run(run);
  }
}

}  // namespace

const Moments* LayerStatistics::Find(const std::string& linear) const {
  for (const GroupStatistics& g : groups) {
    if (std::find(g.linears.begin(), g.linears.end(), linear) != g.linears.end()) return &g.moments;
  }
  return nullptr;
}

MomentAccumulator::MomentAccumulator(int64_t features, Stream stream, int64_t group_tokens)
    : features_(features),
      stream_(stream),
      group_tokens_(group_tokens),
      sum_(features, features),
      absolute_(features),
      chunk_(kMomentChunk * features) {}

void MomentAccumulator::AddRow(const float* x) {
  const bool is_new = group_tokens_ > 0 ? tokens_ % group_tokens_ == 0 : tokens_ == 0;
  if (is_new) total_.resize(total_.size() + features_);
  double* total = total_.data() + total_.size() - features_;
  for (int64_t i = 0; i < features_; ++i) {
    total[i] += x[i];
    absolute_[i] += std::abs(x[i]);
  }
  ++tokens_;
}

void MomentAccumulator::Add(const MatrixView& x) {
  RK_CHECK(x.cols == features_);
  RK_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kBF16);
  for (int64_t row = 0; row < x.rows; row += kMomentChunk) {
    AddChunk(x, row, std::min(kMomentChunk, x.rows - row));
  }
}

void MomentAccumulator::AddChunk(const MatrixView& x, int64_t first_row, int64_t rows) {
  for (int64_t t = 0; t < rows; ++t) {
    float* out = chunk_.data() + t * features_;
    CopyRow(x, first_row + t, out);
    AddRow(out);
  }
  const Eigen::Map<const FloatRows> chunk(chunk_.data(), rows, features_);
  const int64_t edge = CeilDiv(features_, kBlock);
  ForBlocks(stream_, edge * (edge + 1) / 2, [&](int64_t index, FloatRows* product) {
    const auto [row, col] = LowerBlock(index);
    AddBlock(chunk, chunk, row * kBlock, col * kBlock, product, &sum_);
  });
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

CrossAccumulator::CrossAccumulator(int64_t features, Stream stream)
    : features_(features),
      stream_(stream),
      sum_(features, features),
      total_(features),
      a_(MomentAccumulator::kMomentChunk * features),
      b_(MomentAccumulator::kMomentChunk * features) {}

void CrossAccumulator::Add(const MatrixView& a, const MatrixView& b) {
  RK_CHECK(a.rows == b.rows && a.rows <= MomentAccumulator::kMomentChunk);
  RK_CHECK(a.cols == features_ && b.cols == features_);
  for (int64_t t = 0; t < a.rows; ++t) {
    CopyRow(a, t, a_.data() + t * features_);
    CopyRow(b, t, b_.data() + t * features_);
    for (int64_t i = 0; i < features_; ++i) total_[i] += a_[t * features_ + i];
  }
  tokens_ += a.rows;
  const Eigen::Map<const FloatRows> left(a_.data(), a.rows, features_);
  const Eigen::Map<const FloatRows> right(b_.data(), b.rows, features_);
  const int64_t edge = CeilDiv(features_, kBlock);
  ForBlocks(stream_, edge * edge, [&](int64_t index, FloatRows* product) {
    AddBlock(left, right, index / edge * kBlock, index % edge * kBlock, product, &sum_);
  });
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
                                       const std::vector<int64_t>& features, Stream stream,
                                       int64_t group_tokens)
    : groups_(groups) {
  RK_CHECK(groups.size() == features.size());
  for (int64_t n : features) accumulators_.emplace_back(n, stream, group_tokens);
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
