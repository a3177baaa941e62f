#include "tools/compress/statistics.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/dtype.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"
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
  std::vector<const OpTable*> tables = CpuOpTables();
  tables.push_back(&RefOps());
  // Around the edges of a block (16), a tile (96) and a chunk (512), and several at once.
  for (const auto& [tokens, n] : std::vector<std::pair<int64_t, int64_t>>{{1, 1},
                                                                          {3, 5},
                                                                          {15, 16},
                                                                          {17, 17},
                                                                          {40, 95},
                                                                          {40, 97},
                                                                          {33, 208},
                                                                          {511, 9},
                                                                          {513, 9},
                                                                          {1200, 33}}) {
    const Activations x(tokens, n, 1);
    for (const OpTable* ops : tables) {
      SCOPED_TRACE(absl::StrCat(ops->name, ", ", tokens, " tokens, ", n, " features"));
      MomentAccumulator accumulator(n, *ops, {});
      accumulator.Add(x.view);
      const auto moments = accumulator.Finish();
      ASSERT_TRUE(moments.ok()) << moments.status();
      EXPECT_EQ(moments->tokens, tokens);
      ExpectMoments(*moments, x.view);
    }
  }
}

// Groups that begin and end inside a chunk, whatever the pieces that arrive.
TEST(StatisticsTest, GroupMeansFollowTheTokens) {
  const int64_t n = 20, tokens = 1100, group = 300;
  const Activations x(tokens, n, 7);
  MomentAccumulator accumulator(n, BestCpuOps(), {}, group);
  MatrixView first = x.view, rest = x.view;
  first.rows = 130;
  rest.data = x.view.Row<float>(130);
  rest.rows = tokens - 130;
  accumulator.Add(first);
  accumulator.Add(rest);
  const auto moments = accumulator.Finish();
  ASSERT_TRUE(moments.ok()) << moments.status();
  EXPECT_EQ(moments->group_tokens, (std::vector<int64_t>{300, 300, 300, 200}));
  ASSERT_EQ(moments->group_means.rows, 4);
  for (int64_t g = 0; g < 4; ++g) {
    for (int64_t i = 0; i < n; ++i) {
      double mean = 0, size = 0;
      for (int64_t t = g * group; t < std::min(tokens, (g + 1) * group); ++t) {
        mean += static_cast<double>(x.view.Row<float>(t)[i]) / moments->group_tokens[g];
        size += std::abs(static_cast<double>(x.view.Row<float>(t)[i])) / moments->group_tokens[g];
      }
      EXPECT_NEAR(moments->group_means(g, i), mean, group * 1.2e-16 * size);
    }
  }
}

TEST(StatisticsTest, CrossMomentsEqualDirectSumsInF64) {
  const int64_t n = 113, tokens = 301;
  const Activations a(tokens, n, 8), b(tokens, n, 9);
  ThreadPool pool(2);
  CrossAccumulator accumulator(n, BestCpuOps(), {.pool = &pool});
  accumulator.Add(a.view, b.view);
  const Matrix64 cross = accumulator.Finish();
  const double eps = std::numeric_limits<float>::epsilon();
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        const double v = static_cast<double>(a.view.Row<float>(t)[i]) * b.view.Row<float>(t)[j];
        sum += v / tokens;
        size += std::abs(v) / tokens;
      }
      ASSERT_NEAR(cross(i, j), sum, tokens * eps / 2 * size) << i << " " << j;
    }
  }
}

TEST(StatisticsTest, ThreadsChangeNothing) {
  const Activations x(600, 530, 2);
  ThreadPool pool(3);
  MomentAccumulator alone(530, BestCpuOps(), {}), together(530, BestCpuOps(), {.pool = &pool});
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
  MomentAccumulator accumulator(18, BestCpuOps(), {});
  accumulator.Add(view);
  ExpectMoments(*accumulator.Finish(), x.view);
}

TEST(StatisticsTest, NamesWhatIsNotFinite) {
  Activations x(4, 6, 4);
  x.values[2 * x.stride + 3] = std::numeric_limits<float>::quiet_NaN();
  StatisticsObserver observer({{"layer.q", "layer.k"}}, {6}, BestCpuOps(), {});
  observer.OnGroupInput("layer.q", x.view);
  const auto statistics = observer.Finish();
  ASSERT_FALSE(statistics.ok());
  EXPECT_THAT(std::string(statistics.status().message()), ::testing::HasSubstr("layer.q"));
  EXPECT_FALSE(MomentAccumulator(6, BestCpuOps(), {}).Finish().ok());
}

LayerStatistics SomeStatistics() {
  StatisticsObserver observer({{"a.q", "a.k"}, {"a.o"}}, {6, 3}, BestCpuOps(), {});
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
