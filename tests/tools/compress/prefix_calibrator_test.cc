#include "tools/compress/prefix_calibrator.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/loader.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/layer_factorizer.h"

namespace rankine {
namespace {

using testing::TempFolder;
using testing::WriteWholeFile;

constexpr int64_t kWindows = 5, kTokens = 48;

absl::Status Ignore(double) { return absl::OkStatus(); }

class PrefixCalibratorTest : public ::testing::Test {
 protected:
  PrefixCalibratorTest() {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    checkpoint_ = *OpenCheckpoint(model_);
    const std::string text = testing::TinyText(kWindows * kTokens);
    for (int64_t w = 0; w < kWindows; ++w) {
      windows_.emplace_back(text.begin() + w * kTokens, text.begin() + (w + 1) * kTokens);
    }
  }

  // What a model's layer sees, by the plain calibrator.
  std::vector<LayerStatistics> Reference(const std::string& folder) const {
    const auto checkpoint = *OpenCheckpoint(folder);
    const auto device = *MakeCpuDevice({.num_threads = 2});
    const auto model = *LoadModel(*checkpoint, *device, {.compute = DType::kF32});
    const auto calibrator = *Calibrator::Create(*model, {windows_.begin(), windows_.end()});
    std::vector<LayerStatistics> layers;
    for (int i = 0; i < 3; ++i) layers.push_back(*calibrator->Observe(Ignore));
    return layers;
  }

  std::unique_ptr<PrefixCalibrator> Create() const {
    return *PrefixCalibrator::Create(*checkpoint_, windows_, 2);
  }

  LayerPart SvdOf(int64_t layer) const {
    const auto linears = *SelectLinears(*checkpoint_, "", "");
    LayerInput input;
    for (const LinearInfo& l : linears) {
      if (l.layer != layer) continue;
      input.linears.push_back(&l);
      input.budgets[l.name] = {.parameters = 0.6 * l.out_features() * l.in_features()};
    }
    const FactorJob job{.checkpoint = checkpoint_.get(),
                        .method = *FindMethod("svd"),
                        .encoding = Encoding::Float(DType::kBF16),
                        .block_dtype = DType::kBF16};
    return *FactorLayer(job, input);
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<std::vector<int32_t>> windows_;
};

TEST_F(PrefixCalibratorTest, WithNothingFactoredSeesWhatTheModelSees) {
  const auto reference = Reference(model_);
  const auto prefix = Create();
  for (int64_t layer = 0; layer < 3; ++layer) {
    const auto seen = prefix->Observe(Ignore);
    ASSERT_TRUE(seen.ok()) << seen.status();
    ASSERT_EQ(seen->groups.size(), 4u);
    for (const GroupStatistics& group : seen->groups) {
      SCOPED_TRACE(group.linears[0]);
      const Moments* m = &group.moments;
      const Moments* expected = reference[layer].Find(group.linears.back());
      ASSERT_NE(expected, nullptr);
      EXPECT_EQ(m->second.values, expected->second.values);
      EXPECT_EQ(m->mean, expected->mean);
      EXPECT_EQ(m->group_means.values, expected->group_means.values);
      EXPECT_EQ(m->dense_mean, expected->mean);
      for (int64_t i = 0; i < m->cross.rows; ++i) {
        for (int64_t j = 0; j <= i; ++j) ASSERT_EQ(m->cross(i, j), m->second(i, j));
      }
    }
    ASSERT_TRUE(prefix->Advance({}, Ignore).ok());
  }
}

// The statistics behind factored layers are those of the model that Factorize writes.
TEST_F(PrefixCalibratorTest, SeesWhatTheFactoredModelSees) {
  ASSERT_TRUE(Factorize(model_, temp_ / "out", {.method = "svd", .keep = 0.6}).ok());
  const auto reference = Reference(temp_ / "out"), dense = Reference(model_);
  const auto prefix = Create();
  ASSERT_TRUE(prefix->Advance(SvdOf(0), Ignore).ok());
  const std::string q = "model.layers.1.self_attn.q_proj", down = "model.layers.1.mlp.down_proj";
  const auto seen = prefix->Observe(Ignore);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(seen->Find(q)->second.values, reference[1].Find(q)->second.values);
  EXPECT_NE(seen->Find(q)->second.values, dense[1].Find(q)->second.values);
  // Siblings are dense.
  EXPECT_NE(seen->Find(down)->second.values, reference[1].Find(down)->second.values);
  // The other side of `cross` is the dense model's input.
  EXPECT_EQ(seen->Find(down)->dense_mean, dense[1].Find(down)->mean);
  ASSERT_TRUE(prefix->Advance(SvdOf(1), Ignore).ok());
  const auto last = prefix->Observe(Ignore);
  ASSERT_TRUE(last.ok());
  const std::string v = "model.layers.2.self_attn.v_proj";
  EXPECT_EQ(last->Find(v)->second.values, reference[2].Find(v)->second.values);
  EXPECT_EQ(last->Find(v)->dense_mean, dense[2].Find(v)->mean);
  ASSERT_TRUE(prefix->Advance({}, Ignore).ok());
}

// A layer that is passed without a look moves both streams.
TEST_F(PrefixCalibratorTest, AdvancesUnseen) {
  const auto reference = Reference(model_);
  const auto prefix = Create();
  ASSERT_TRUE(prefix->Advance({}, Ignore).ok());
  const std::string gate = "model.layers.1.mlp.gate_proj";
  const auto seen = prefix->Observe(Ignore);
  EXPECT_EQ(seen->Find(gate)->second.values, reference[1].Find(gate)->second.values);
  EXPECT_EQ(seen->Find(gate)->dense_mean, reference[1].Find(gate)->mean);
}

TEST_F(PrefixCalibratorTest, UpdateNeedsTheTextAndEndsTheSortedLeg) {
  WriteWholeFile(temp_ / "text", testing::TinyText(6000));
  FactorizeOptions o{.method = "svd-llm-u",
                     .keep = 0.6,
                     .calibration_files = {temp_ / "text"},
                     .calibration_windows = 20,
                     .window = 64,
                     .threads = 2};
  const auto report = Factorize(model_, temp_ / "out", o);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers.size(), 21u);
  const auto out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  for (const FactoredMatrix& m : (*out)->factored()) EXPECT_EQ(m.sorted_leg, "") << m.name;
  o.calibration_files.clear();
  o.statistics_folder = temp_ / "statistics";
  EXPECT_THAT(std::string(Factorize(model_, temp_ / "error", o).status().message()),
              ::testing::HasSubstr("--calibration"));
}

TEST_F(PrefixCalibratorTest, GoesOnAfterAStopWithTheSameFactors) {
  WriteWholeFile(temp_ / "text", testing::TinyText(6000));
  const FactorizeOptions o{.method = "svd-llm-u",
                           .keep = 0.6,
                           .calibration_files = {temp_ / "text"},
                           .calibration_windows = 20,
                           .window = 64,
                           .only_regex = "layers\\.(0|2)",
                           .threads = 2};
  ASSERT_TRUE(Factorize(model_, temp_ / "whole", o).ok());
  const auto stop = [](const Progress& p) { return p.text.find("layer 3") == std::string::npos; };
  ASSERT_FALSE(Factorize(model_, temp_ / "out", o, stop).ok());
  ASSERT_TRUE(Factorize(model_, temp_ / "out", o).ok());
  EXPECT_EQ(testing::ReadWholeFile(temp_ / "out/model.safetensors"),
            testing::ReadWholeFile(temp_ / "whole/model.safetensors"));
}

}  // namespace
}  // namespace rankine
