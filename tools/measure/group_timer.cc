#include "tools/measure/group_timer.h"

#include <random>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/machine_levels.h"
#include "tools/measure/statistics.h"
#include "tools/measure/stopwatch.h"

namespace rankine {
namespace {

// Writes more than the caches hold.
class CacheFiller {
 public:
  CacheFiller() : data_(2 * std::max<int64_t>(HostCacheSizes().l3, 16 << 20) / sizeof(uint64_t)) {}
  void Fill() {
    for (uint64_t& v : data_) ++v;
  }

 private:
  std::vector<uint64_t> data_;
};

// Rows of normal numbers in the forms that the group reads.
class Input {
 public:
  static absl::StatusOr<Input> Make(Device& device, const LinearGroup& group, int64_t rows) {
    Input input;
    const int64_t cols = group.in_features(), stride = RoundUp(cols, kColumnPad);
    auto values = Buffer::Allocate(device, rows * stride * static_cast<int64_t>(sizeof(float)));
    auto dense = Buffer::Allocate(device, rows * stride * static_cast<int64_t>(sizeof(float)));
    auto records = Buffer::Allocate(device, rows * QuantizedRowBytes(cols));
    for (const absl::Status& status : {values.status(), dense.status(), records.status()}) {
      if (!status.ok()) return status;
    }
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * stride; ++i) {
      const bool pad = i % stride >= cols;
      values->As<float>()[i] = pad ? 0.0f : normal(random);
    }
    const MatrixView from{.data = values->data(), .rows = rows, .cols = cols, .stride = stride};
    input.views_ = {.dense = {.data = dense->data(),
                              .dtype = group.compute(),
                              .rows = rows,
                              .cols = cols,
                              .stride = stride},
                    .quantized = {.data = records->data(),
                                  .dtype = DType::kI8,
                                  .rows = rows,
                                  .cols = cols,
                                  .stride = QuantizedRowBytes(cols)}};
    device.ops().convert({.x = from, .out = input.views_.dense}, device.stream());
    device.ops().convert({.x = from, .out = input.views_.quantized}, device.stream());
    input.dense_ = *std::move(dense);
    input.records_ = *std::move(records);
    return input;
  }

  const GroupInput& views() const { return views_; }

 private:
  Buffer dense_, records_;
  GroupInput views_;
};

}  // namespace

absl::StatusOr<double> MeasureGroup(Device& device, const LinearGroup& group, int64_t num_tokens,
                                    int repeats) {
  auto input = Input::Make(device, group, num_tokens);
  if (!input.ok()) return input.status();
  auto y = Buffer::Allocate(
      device, num_tokens * group.output_columns() * static_cast<int64_t>(sizeof(float)));
  if (!y.ok()) return y.status();
  auto workspace = Buffer::Allocate(device, group.workspace_bytes(num_tokens));
  if (!workspace.ok()) return workspace.status();
  const MatrixView out{.data = y->data(),
                       .rows = num_tokens,
                       .cols = group.output_columns(),
                       .stride = group.output_columns()};
  CacheFiller filler;
  std::vector<double> seconds;
  for (int run = 0; run <= repeats; ++run) {
    filler.Fill();
    const auto start = Clock::now();
    group.Run(device, input->views(), out, workspace->data(), /*accumulate=*/false);
    if (run > 0)  // the first warms up
      seconds.push_back(SecondsSince(start));
  }
  return Median(seconds);
}

}  // namespace rankine
