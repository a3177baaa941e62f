// What calibration learns about the input x of each LinearGroup: means and second moments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"
#include "kernels/op_table.h"
#include "runtime/model.h"
#include "tools/compress/linalg.h"
#include "tools/compress/outer_products.h"

namespace rankine {

struct Moments {
  int64_t tokens = 0;
  Matrix64 second;                    // H = X X^T / tokens [n, n]
  std::vector<double> mean;           // [n]
  std::vector<double> mean_absolute;  // of |x| [n]
  // The means of runs of tokens, kGroupSequences sequences each (the last may have fewer), for
  // covariances within groups: [groups, n], and the tokens of each.
  Matrix64 group_means;
  std::vector<int64_t> group_tokens;
  // Behind a factored prefix only (prefix_calibrator.h), else empty: E[d x^T] [n, n] and E[d] [n],
  // d being the input that the dense model has at the same token.
  Matrix64 cross;
  std::vector<double> dense_mean;
};

// The moments of one group, and the linears that read this input.
struct GroupStatistics {
  std::vector<std::string> linears;
  Moments moments;
};

// All that is in memory at a time: the groups of one layer.
struct LayerStatistics {
  std::vector<GroupStatistics> groups;

  // Null when no group has that linear.
  const Moments* Find(const std::string& linear) const;
};

// Sums x x^T as OuterProducts does. The result does not depend on the number of threads. One thread
// at a time calls it.
class MomentAccumulator {
 public:
  static constexpr int64_t kMomentChunk = OuterProducts::kMaxTokens;
  // Bolaco's (arXiv 2405.10616).
  static constexpr int64_t kGroupSequences = 32;

  // Groups are of `group_tokens` tokens; 0: one group of all.
  MomentAccumulator(int64_t features, const OpTable& ops, Stream stream, int64_t group_tokens = 0);

  // x [t, features], f32 or bf16.
  void Add(const MatrixView& x);
  // kInvalidArgument when nothing was added or an activation was not finite.
  absl::StatusOr<Moments> Finish() const;

 private:
  void AddChunk(const MatrixView& x);
  void AddToMeans(int64_t block, int64_t rows);

  int64_t features_;
  Stream stream_;
  int64_t group_tokens_;
  int64_t tokens_ = 0;
  OuterProducts products_;
  Matrix64 sum_;                  // lower triangle of blocks
  std::vector<double> total_;     // of the groups so far, [groups x features]
  std::vector<double> absolute_;  // [features]
};

// Sums a b^T in the same way.
class CrossAccumulator {
 public:
  CrossAccumulator(int64_t features, const OpTable& ops, Stream stream);

  // Both [t, features], f32 or bf16, t at most MomentAccumulator::kMomentChunk.
  void Add(const MatrixView& a, const MatrixView& b);
  // E[a b^T] and E[a].
  Matrix64 Finish() const;
  std::vector<double> first_mean() const;

 private:
  int64_t tokens_ = 0;
  OuterProducts products_;
  Matrix64 sum_;
  std::vector<double> total_;
};

// One accumulator for each of a layer's groups, keyed by the group's name.
class StatisticsObserver : public ActivationObserver {
 public:
  // `linears` of every group, the group's name first. `group_tokens` as MomentAccumulator has it.
  StatisticsObserver(const std::vector<std::vector<std::string>>& groups,
                     const std::vector<int64_t>& features, const OpTable& ops, Stream stream,
                     int64_t group_tokens = 0);

  // Input of a group that was not announced is a broken invariant.
  void OnGroupInput(const std::string& group, const MatrixView& x) override;
  // kInvalidArgument names the group when its activations are not finite.
  absl::StatusOr<LayerStatistics> Finish() const;

 private:
  std::vector<std::vector<std::string>> groups_;
  std::vector<MomentAccumulator> accumulators_;
};

// As record files (tools/compress/record_file.h), stamped with the digest of what they were made
// from. The upper triangle of H is not stored.
absl::Status WriteStatistics(const std::string& path, const std::string& stamp,
                             const LayerStatistics& statistics);
// kNotFound, kDataLoss as ReadRecord; kFailedPrecondition when the stamp is another's.
absl::StatusOr<LayerStatistics> ReadStatistics(const std::string& path, const std::string& stamp);

}  // namespace rankine
