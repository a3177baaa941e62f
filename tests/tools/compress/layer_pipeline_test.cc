#include "tools/compress/layer_pipeline.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"

namespace rankine {
namespace {

using testing::TempFolder;

class LayerPipelineTest : public ::testing::Test {
 protected:
  LayerPipelineTest() {
    WriteTinyModelWithTokenizer(folder_, testing::TinyOptions());
    checkpoint_ = *OpenCheckpoint(folder_);
    linears_ = *SelectLinears(*checkpoint_, "", "");
    job_ = {.checkpoint = checkpoint_.get(),
            .method = *FindMethod("svd"),
            .settings = &settings_,
            .encoding = Encoding::Float(DType::kF32),
            .block_dtype = DType::kF32};
  }

  // A layer with `rank` for each linear.
  std::unique_ptr<LayerWork> WorkOf(int64_t layer, int64_t rank = 5) const {
    auto work = std::make_unique<LayerWork>();
    work->layer = layer;
    for (const LinearInfo& linear : linears_) {
      if (linear.layer != layer) continue;
      work->input.linears.push_back(&linear);
      work->input.budgets[linear.name] = {.rank = rank};
    }
    return work;
  }

  const TempFolder temp_;
  const std::string folder_ = temp_ / "model";
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<LinearInfo> linears_;
  MethodSettings settings_;
  FactorJob job_;
};

std::string BytesOf(const LayerPart& part) {
  std::string bytes;
  for (const StoredTensor& t : part.tensors) bytes += t.name + t.bytes;
  return bytes;
}

// Whatever the number of threads, layers arrive in order, with the bytes that each alone gives.
TEST_F(LayerPipelineTest, EqualsLayersAlone) {
  for (const int threads : {1, 2, 7}) {
    job_.threads = threads;
    std::vector<int64_t> order;
    LayerPipeline pipeline(job_, [&](int64_t layer, const LayerPart& part) {
      order.push_back(layer);
      const auto work = WorkOf(layer);
      EXPECT_EQ(BytesOf(part), BytesOf(*FactorLayer(job_, work->input))) << layer;
      EXPECT_EQ(part.reports.size(), 7u);
      return absl::OkStatus();
    });
    size_t added = 0;
    for (const int64_t layer : {2, 0, 1}) {
      ASSERT_TRUE(pipeline.Add(WorkOf(layer)).ok());
      EXPECT_GE(order.size() + 1, ++added);  // at most one is unfinished
    }
    ASSERT_TRUE(pipeline.Drain().ok());
    EXPECT_EQ(order, (std::vector<int64_t>{2, 0, 1}));
  }
}

// The layers before the one that fails are delivered, none after it.
TEST_F(LayerPipelineTest, StopsAtTheFirstLayerThatFails) {
  job_.threads = 3;
  std::vector<int64_t> order;
  LayerPipeline pipeline(job_, [&](int64_t layer, const LayerPart&) {
    order.push_back(layer);
    return absl::OkStatus();
  });
  ASSERT_TRUE(pipeline.Add(WorkOf(0)).ok());
  absl::Status status = pipeline.Add(WorkOf(1, /*rank=*/1000));
  if (status.ok()) status = pipeline.Add(WorkOf(2));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("model.layers.1."));
  EXPECT_EQ(order, (std::vector<int64_t>{0}));
}

TEST_F(LayerPipelineTest, StopsWhenItIsTold) {
  int delivered = 0;
  LayerPipeline pipeline(job_, [&](int64_t, const LayerPart&) {
    ++delivered;
    return absl::CancelledError("stop");
  });
  absl::Status status = pipeline.Add(WorkOf(0));
  if (status.ok()) status = pipeline.Add(WorkOf(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(delivered, 1);
}

}  // namespace
}  // namespace rankine
