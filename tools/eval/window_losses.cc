#include "tools/eval/window_losses.h"

#include <algorithm>

#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/eval/next_token.h"

namespace rankine {
namespace {

// Losses of rows [first, first + losses) of the pass; row r is scored against targets[r].
void LossesOfSlice(const Model& model, const MatrixView& logits, const int32_t* targets,
                   double* losses) {
  WorkQueue queue(logits.rows, 1);
  auto work = [&](int) {
    for (int64_t row = 0, end = 0; queue.Next(&row, &end);) {
      losses[row] = targets[row] < 0
                        ? 0
                        : NegativeLogLikelihood(logits.Row<float>(row), logits.cols, targets[row]);
    }
  };
  OnThreads(model.device().stream(), work);
}

}  // namespace

std::vector<double> WindowLosses(const Model& model,
                                 absl::Span<const absl::Span<const int32_t>> windows,
                                 WindowRunner* runner) {
  // What each row predicts; the last row of a window predicts nothing.
  std::vector<int32_t> targets;
  for (const auto& window : windows) {
    targets.insert(targets.end(), window.begin() + 1, window.end());
    targets.push_back(-1);
  }
  std::vector<double> losses(targets.size());
  for (int64_t row = 0; row < runner->rows(); row += kLossRows) {
    const MatrixView logits = runner->Logits(row, std::min(kLossRows, runner->rows() - row));
    LossesOfSlice(model, logits, targets.data() + row, losses.data() + row);
  }
  std::vector<double> means;
  const double* loss = losses.data();
  for (const auto& window : windows) {
    double sum = 0;
    for (size_t i = 0; i + 1 < window.size(); ++i) sum += loss[i];
    means.push_back(sum / static_cast<double>(window.size() - 1));
    loss += window.size();
  }
  return means;
}

}  // namespace rankine
