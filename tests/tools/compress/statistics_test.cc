#include "tools/compress/statistics.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/dtype.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/testing/tiny_model.h"
#include "tools/compress/record_file.h"

namespace rankine {
namespace {

using testing::TempFolder;

// Activations [t, n] with a stride, some features far larger than others.
struct Activations {
  Activations(int64_t tokens, int64_t features, uint64_t seed)
      : stride((features + 15) / 16 * 16), values(tokens * stride), view() {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.25f);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < features; ++i) {
        values[t * stride + i] = normal(random) * (i % 7 == 0 ? 30.0f : 0.1f);
      }
    }
    view = {.data = values.data(), .rows = tokens, .cols = features, .stride = stride};
  }
  int64_t stride;
  std::vector<float> values;
  MatrixView view;
};

void ExpectMoments(const Moments& moments, const MatrixView& x) {
  const int64_t n = x.cols;
  std::vector<double> scale(n);
  for (int64_t i = 0; i < n; ++i) {
    double mean = 0;
    for (int64_t t = 0; t < x.rows; ++t) {
      const double v = x.Row<float>(t)[i];
      mean += v / x.rows;
      scale[i] += v * v / x.rows;
    }
    EXPECT_NEAR(moments.mean[i], mean, 1e-12 * std::sqrt(scale[i]));
  }
  // A sum of k products in f32 is off by at most k eps sum |x_i x_j| / 2, and by Cauchy-Schwarz
  // that is at most k eps sqrt(H_ii H_jj) / 2; k <= 512 whatever the length of the text.
  const double eps = std::numeric_limits<float>::epsilon();
  const double k = std::min<int64_t>(x.rows, MomentAccumulator::kMomentChunk);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double h = 0;
      for (int64_t t = 0; t < x.rows; ++t) {
        h += static_cast<double>(x.Row<float>(t)[i]) * x.Row<float>(t)[j] / x.rows;
      }
      ASSERT_NEAR(moments.second(i, j), h, k * eps / 2 * std::sqrt(scale[i] * scale[j]))
          << i << " " << j;
    }
  }
}

TEST(StatisticsTest, EqualsDirectSumsInF64) {
  // Around a block's edge (256) and a chunk's (512), and both at once.
  for (const auto& [tokens, n] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 5}, {40, 255}, {40, 257}, {511, 9}, {513, 9}, {1200, 33}}) {
    const Activations x(tokens, n, 1);
    MomentAccumulator accumulator(n, {});
    accumulator.Add(x.view);
    const auto moments = accumulator.Finish();
    ASSERT_TRUE(moments.ok()) << moments.status();
    EXPECT_EQ(moments->tokens, tokens);
    ExpectMoments(*moments, x.view);
  }
}

TEST(StatisticsTest, ThreadsChangeNothing) {
  const Activations x(600, 530, 2);
  ThreadPool pool(3);
  MomentAccumulator alone(530, {}), together(530, {.pool = &pool});
  alone.Add(x.view);
  together.Add(x.view);
  EXPECT_EQ(alone.Finish()->second.values, together.Finish()->second.values);
}

TEST(StatisticsTest, ReadsBf16) {
  Activations x(20, 18, 3);
  std::vector<BF16> narrow(x.values.size());
  for (size_t i = 0; i < narrow.size(); ++i) {
    narrow[i] = ToBF16(x.values[i]);
    x.values[i] = ToFloat(narrow[i]);
  }
  MatrixView view = x.view;
  view.data = narrow.data();
  view.dtype = DType::kBF16;
  MomentAccumulator accumulator(18, {});
  accumulator.Add(view);
  ExpectMoments(*accumulator.Finish(), x.view);
}

TEST(StatisticsTest, NamesWhatIsNotFinite) {
  Activations x(4, 6, 4);
  x.values[2 * x.stride + 3] = std::numeric_limits<float>::quiet_NaN();
  StatisticsObserver observer({{"layer.q", "layer.k"}}, {6}, {});
  observer.OnGroupInput("layer.q", x.view);
  const auto statistics = observer.Finish();
  ASSERT_FALSE(statistics.ok());
  EXPECT_THAT(std::string(statistics.status().message()), ::testing::HasSubstr("layer.q"));
  EXPECT_FALSE(MomentAccumulator(6, {}).Finish().ok());
}

LayerStatistics SomeStatistics() {
  StatisticsObserver observer({{"a.q", "a.k"}, {"a.o"}}, {6, 3}, {});
  const Activations x(9, 6, 5), y(9, 3, 6);
  observer.OnGroupInput("a.q", x.view);
  observer.OnGroupInput("a.o", y.view);
  return *observer.Finish();
}

TEST(StatisticsTest, FilesKeepEveryBit) {
  const TempFolder temp;
  const LayerStatistics statistics = SomeStatistics();
  const std::string path = temp / "layer.statistics";
  ASSERT_TRUE(WriteStatistics(path, "stamp", statistics).ok());
  const auto read = ReadStatistics(path, "stamp");
  ASSERT_TRUE(read.ok()) << read.status();
  for (const char* name : {"a.q", "a.k", "a.o"}) {
    ASSERT_NE(read->Find(name), nullptr);
    EXPECT_EQ(read->Find(name)->second.values, statistics.Find(name)->second.values);
    EXPECT_EQ(read->Find(name)->mean, statistics.Find(name)->mean);
    EXPECT_EQ(read->Find(name)->tokens, 9);
  }
  EXPECT_EQ(read->Find("a.v"), nullptr);
  EXPECT_EQ(ReadStatistics(path, "other").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadStatistics(temp / "none", "stamp").status().code(), absl::StatusCode::kNotFound);
}

// Whatever byte is changed or wherever the file ends, it is not taken for a whole one.
TEST(StatisticsTest, DamagedFilesAreNoticed) {
  const TempFolder temp;
  const std::string path = temp / "layer.statistics";
  ASSERT_TRUE(WriteStatistics(path, "stamp", SomeStatistics()).ok());
  const std::string bytes = testing::ReadWholeFile(path);
  for (size_t i = 0; i < bytes.size(); i += 5) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    testing::WriteWholeFile(path, damaged);
    EXPECT_EQ(ReadStatistics(path, "stamp").status().code(), absl::StatusCode::kDataLoss) << i;
    testing::WriteWholeFile(path, bytes.substr(0, i));
    EXPECT_EQ(ReadStatistics(path, "stamp").status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

}  // namespace
}  // namespace rankine
