#include "tools/compress/prefix_calibrator.h"

#include <map>
#include <optional>
#include <utility>

#include "Eigen/Core"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"
#include "tools/compress/loaded_layer.h"

namespace rankine {
namespace {

using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

FloatRows RowsOf(const MatrixView& x) {
  FloatRows rows(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t i = 0; i < x.cols; ++i) {
      rows(t, i) = x.dtype == DType::kF32 ? x.Row<float>(t)[i] : ToFloat(x.Row<BF16>(t)[i]);
    }
  }
  return rows;
}

MatrixView ViewOf(FloatRows& x) {
  return {.data = x.data(),
          .dtype = DType::kF32,
          .rows = x.rows(),
          .cols = x.cols(),
          .stride = x.cols()};
}

// Keeps every group's input of one pass.
class Capture : public ActivationObserver {
 public:
  void OnGroupInput(const std::string& group, const MatrixView& x) override {
    inputs_[group] = RowsOf(x);
  }
  FloatRows& input(const std::string& group) { return inputs_.at(group); }

 private:
  std::map<std::string, FloatRows> inputs_;
};

// Sums the moments of every group, and their products with what a capture has of the same pass.
class CrossObserver : public ActivationObserver {
 public:
  CrossObserver(StatisticsObserver moments, const FactoredModel& model, Capture* dense)
      : moments_(std::move(moments)), dense_(dense) {
    for (const LinearGroup* group : model.groups()) {
      if (!LayerOf(group->name())) continue;
      cross_.try_emplace(group->name(), group->in_features(), model.device().ops(),
                         model.device().stream());
    }
  }

  void OnGroupInput(const std::string& group, const MatrixView& x) override {
    moments_.OnGroupInput(group, x);
    cross_.at(group).Add(ViewOf(dense_->input(group)), x);
  }

  absl::StatusOr<LayerStatistics> Finish() const {
    RK_ASSIGN_OR_RETURN(LayerStatistics statistics, moments_.Finish());
    for (GroupStatistics& g : statistics.groups) {
      const CrossAccumulator& cross = cross_.at(g.linears[0]);
      g.moments.cross = cross.Finish();
      g.moments.dense_mean = cross.first_mean();
    }
    return statistics;
  }

 private:
  StatisticsObserver moments_;
  Capture* dense_;
  std::map<std::string, CrossAccumulator> cross_;
};

}  // namespace

PrefixCalibrator::PrefixCalibrator(const Checkpoint& source,
                                   std::vector<std::vector<int32_t>> windows)
    : source_(source), windows_(std::move(windows)) {}

PrefixCalibrator::~PrefixCalibrator() = default;

absl::StatusOr<std::unique_ptr<PrefixCalibrator>> PrefixCalibrator::Create(
    const Checkpoint& source, std::vector<std::vector<int32_t>> windows, int threads) {
  std::unique_ptr<PrefixCalibrator> c(new PrefixCalibrator(source, std::move(windows)));
  RK_ASSIGN_OR_RETURN(c->device_, MakeCpuDevice({.num_threads = threads}));
  RK_ASSIGN_OR_RETURN(const auto model, LoadModel(source, *c->device_, {.compute = DType::kF32}));
  RK_ASSIGN_OR_RETURN(LayerPass pass,
                      LayerPass::Create(*model, {c->windows_.begin(), c->windows_.end()}));
  c->dense_hidden_ = pass.Embed();
  c->prefix_hidden_ = c->dense_hidden_;
  return c;
}

absl::StatusOr<std::unique_ptr<LoadedLayer>> PrefixCalibrator::Load(const LayerPart& factored) {
  return LoadedLayer::Create(source_, next_layer_, factored,
                             {.windows = static_cast<int64_t>(windows_.size()),
                              .window_tokens = static_cast<int64_t>(windows_[0].size()),
                              .device = device_.get()});
}

absl::StatusOr<LayerStatistics> PrefixCalibrator::Observe(const LayerProgress& progress) {
  RK_CHECK(!dense_has_moved_);
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedLayer> layer, Load({}));
  const auto window_tokens = static_cast<int64_t>(windows_[0].size());
  Capture dense;
  CrossObserver prefix(MakeStatisticsObserver(layer->model(), 0, window_tokens), layer->model(),
                       &dense);
  const int64_t passes = layer->pass().num_passes();
  for (int64_t index = 0; index < passes; ++index) {
    layer->pass().Run(0, index, &dense, /*keep=*/true, &dense_hidden_);
    layer->pass().Run(0, index, &prefix, /*keep=*/false, &prefix_hidden_);
    RK_RETURN_IF_ERROR(progress(static_cast<double>(index + 1) / static_cast<double>(passes)));
  }
  dense_has_moved_ = true;
  RK_ASSIGN_OR_RETURN(LayerStatistics statistics, prefix.Finish());
  for (GroupStatistics& group : statistics.groups) {
    for (std::string& name : group.linears) name = InLayer(name, next_layer_);
  }
  return statistics;
}

absl::Status PrefixCalibrator::MoveDense(const LayerProgress& progress) {
  if (dense_has_moved_) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedLayer> layer, Load({}));
  for (int64_t index = 0; index < layer->pass().num_passes(); ++index) {
    layer->pass().Run(0, index, nullptr, /*keep=*/true, &dense_hidden_);
    RK_RETURN_IF_ERROR(progress(0));
  }
  return absl::OkStatus();
}

absl::Status PrefixCalibrator::Advance(const LayerPart& factored, const LayerProgress& progress) {
  RK_RETURN_IF_ERROR(MoveDense(progress));
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedLayer> prefix, Load(factored));
  const int64_t passes = prefix->pass().num_passes();
  for (int64_t index = 0; index < passes; ++index) {
    prefix->pass().Run(0, index, nullptr, /*keep=*/true, &prefix_hidden_);
    RK_RETURN_IF_ERROR(progress(static_cast<double>(index + 1) / static_cast<double>(passes)));
  }
  ++next_layer_;
  dense_has_moved_ = false;
  return absl::OkStatus();
}

}  // namespace rankine
