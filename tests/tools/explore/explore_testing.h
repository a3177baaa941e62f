// What the tests of explorations share: a tiny model, its texts, and options as the command makes
// them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/compress/compress_testing.h"
#include "tools/cli/factorize_flags.h"
#include "tools/explore/explore.h"
#include "tools/explore/plan.h"
#include "tools/explore/words.h"

namespace rankine::testing {

class ExploreTest : public ::testing::Test {
 protected:
  ExploreTest() : device_(*MakeCpuDevice({.num_threads = 1})) {
    WriteTinyModelWithTokenizer(model_, TinyOptions());
    WriteWholeFile(calibration_, TinyText(4000));
    WriteWholeFile(text_, TinyText(1500, 11));
    WriteWholeFile(other_text_, TinyText(900, 13));
  }

  // As the command makes them.
  std::vector<PointSpec> Points(const Axes& axes) const {
    auto points = PlanPoints(axes);
    EXPECT_TRUE(points.ok()) << points.status();
    for (PointSpec& point : *points) {
      if (point.kind != PointKind::kFactorize) continue;
      auto options = ParseFactorizeFlags(*SplitWords(point.recipe));
      EXPECT_TRUE(options.ok()) << options.status();
      point.factorize = *std::move(options);
    }
    return *points;
  }

  ExploreOptions Options(const Axes& axes) const {
    ExploreOptions o{.model = model_, .out = temp_ / "out", .points = Points(axes)};
    o.evaluator = {
        .device = device_.get(),
        .kv_dtype = [](const FactoredModel&) -> absl::StatusOr<DType> { return DType::kF32; },
        .texts = {{.name = "near", .path = text_}, {.name = "far <&>", .path = other_text_}},
        .context = 64,
        .speed = {.prompt_tokens = 8, .new_tokens = 4, .repeat = 0}};
    o.calibration = {.files = {calibration_}, .windows = 20, .window = 64};
    o.prune = false;
    o.threads = 1;
    return o;
  }

  std::string Out(const std::string& name) const { return ReadWholeFile(temp_ / ("out/" + name)); }
  nlohmann::json Json() const { return nlohmann::json::parse(Out("explore.json")); }

  std::string Error(const ExploreOptions& options) const {
    const auto result = Explore(options);
    EXPECT_FALSE(result.ok());
    return std::string(result.status().message());
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
  const std::string calibration_ = temp_ / "calibration.txt";
  const std::string text_ = temp_ / "text.txt", other_text_ = temp_ / "other.txt";
  std::unique_ptr<Device> device_;
};

inline const Axes kSmall = {
    .methods = {"svd", "svd-llm"}, .keep = {0.8, 0.5}, .encodings = {"int8:g16"}};

}  // namespace rankine::testing
