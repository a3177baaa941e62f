#include "tools/compress/search/measured_points.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

class MeasuredPointsTest : public ::testing::Test {
 protected:
  std::string Error(const MeasuredPointsInfo& info) const {
    const auto points = MeasuredPoints::Open(path_, info);
    EXPECT_FALSE(points.ok());
    return std::string(points.status().message());
  }

  const TempFolder temp_;
  const std::string path_ = temp_ / "losses";
  const MeasuredPointsInfo info_{.model_digest = "0123456789abcdef",
                                 .model_name = "llama",
                                 .text_digest = "text",
                                 .windows = 2,
                                 .window = 64,
                                 .made_by = {{"method", "asvd"}, {"--alpha", "0.5"}}};
  const Ranks a_{{"model.layers.0.mlp.up_proj", 7}};
  const std::vector<double> losses_{1.0 / 3, 2.5e-17};
};

TEST_F(MeasuredPointsTest, KeepsEveryBit) {
  auto points = MeasuredPoints::Open(path_, info_);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_TRUE(points->Add({}, {1, 2}).ok());
  ASSERT_TRUE(points->Add(a_, losses_).ok());
  const auto again = MeasuredPoints::Open(path_, info_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->points(), points->points());
  ASSERT_NE(again->Find(a_), nullptr);
  EXPECT_EQ(*again->Find(a_), losses_);
  EXPECT_EQ(again->Find({{"model.layers.0.mlp.up_proj", 8}}), nullptr);
}

// Those who only look need not know what it is of.
TEST_F(MeasuredPointsTest, IsReadAsItIs) {
  {
    auto points = MeasuredPoints::Open(path_, info_);
    ASSERT_TRUE(points.ok()) << points.status();
    ASSERT_TRUE(points->Add({}, {1, 2}).ok());
    ASSERT_TRUE(points->Add(a_, losses_).ok());
  }
  const std::string whole = ReadWholeFile(path_);
  WriteWholeFile(path_, whole + "{\"ranks");
  const auto read = ReadMeasuredLosses(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->info.model_digest, info_.model_digest);
  EXPECT_EQ(read->info.model_name, "llama");
  EXPECT_EQ(read->info.text_digest, "text");
  EXPECT_EQ(read->info.windows, 2);
  EXPECT_EQ(read->info.window, 64);
  EXPECT_EQ(read->info.made_by, info_.made_by);
  EXPECT_THAT(read->points,
              ElementsAre(Pair(Ranks{}, std::vector<double>{1, 2}), Pair(a_, losses_)));
  EXPECT_EQ(ReadWholeFile(path_), whole + "{\"ranks") << "looking changes nothing";
}

TEST_F(MeasuredPointsTest, OtherFilesAreNotRead) {
  const auto error = [&](const std::string& bytes) {
    WriteWholeFile(path_, bytes);
    return std::string(ReadMeasuredLosses(path_).status().message());
  };
  ASSERT_TRUE(MeasuredPoints::Open(path_, info_).ok());
  const std::string header = ReadWholeFile(path_);
  for (const char* bytes : {"", "[1]\n", "{}\n", "no JSON\n", "{\"format\": \"x\"}\n"}) {
    EXPECT_THAT(error(bytes), AllOf(HasSubstr("no file of measured losses"), HasSubstr(path_)));
  }
  EXPECT_THAT(error("{\"format\": 3}\n"), HasSubstr("line 1 is damaged"));
  EXPECT_THAT(error(header + "{\"ranks\": {}, \"losses\": [1]}\n"), HasSubstr("line 2 is damaged"));
  EXPECT_THAT(std::string(ReadMeasuredLosses(temp_ / "gone").status().message()),
              HasSubstr("gone"));
}

// A kill may cut the file anywhere: whole lines count, the rest is dropped.
TEST_F(MeasuredPointsTest, DropsALineThatWasCutOff) {
  {
    auto points = MeasuredPoints::Open(path_, info_);
    ASSERT_TRUE(points->Add({}, {1, 2}).ok());
    ASSERT_TRUE(points->Add(a_, losses_).ok());
  }
  const std::string whole = ReadWholeFile(path_);
  for (size_t size = 0; size <= whole.size(); ++size) {
    WriteWholeFile(path_, whole.substr(0, size));
    auto points = MeasuredPoints::Open(path_, info_);
    ASSERT_TRUE(points.ok()) << size << ": " << points.status();
    if (points->Find({}) == nullptr) points->Add({}, {1, 2}).IgnoreError();
    if (points->Find(a_) == nullptr) points->Add(a_, losses_).IgnoreError();
    ASSERT_EQ(ReadWholeFile(path_), whole) << size;
  }
}

TEST_F(MeasuredPointsTest, RefusesWhatIsOfSomethingElse) {
  ASSERT_TRUE(MeasuredPoints::Open(path_, info_).ok());
  MeasuredPointsInfo other = info_;
  other.model_digest = "f";
  other.model_name = "gemma";
  EXPECT_THAT(Error(other), AllOf(HasSubstr("another model"), HasSubstr("llama"),
                                  HasSubstr("gemma"), HasSubstr(path_)));
  other = info_;
  other.text_digest = "other";
  EXPECT_THAT(Error(other), HasSubstr("another validation text"));
  other = info_;
  other.windows = 3;
  EXPECT_THAT(Error(other), HasSubstr("another validation text"));
  other = info_;
  other.made_by[0].second = "svd";
  EXPECT_THAT(Error(other), AllOf(HasSubstr("method"), HasSubstr("asvd"), HasSubstr("svd")));
  other = info_;
  other.made_by[1].second = "1";
  EXPECT_THAT(Error(other), HasSubstr("--alpha"));
}

TEST_F(MeasuredPointsTest, RefusesOtherFilesAndDamage) {
  for (const char* text : {"weights\n", "hello", "{\"format\": \"other\"}\n", "[1]\n"}) {
    WriteWholeFile(path_, text);
    EXPECT_THAT(Error(info_), AllOf(HasSubstr(path_), HasSubstr("no file of measured losses")))
        << text;
    EXPECT_EQ(ReadWholeFile(path_), text);
  }
  std::string header;
  {
    const TempFolder fresh;
    ASSERT_TRUE(MeasuredPoints::Open(fresh / "h", info_).ok());
    header = ReadWholeFile(fresh / "h");
  }
  for (const char* line :
       {"x", "{}", R"({"ranks": {"a": 1}, "losses": [1]})", R"({"ranks": 3, "losses": [1, 2]})"}) {
    WriteWholeFile(path_, header + line + "\n");
    EXPECT_THAT(Error(info_), AllOf(HasSubstr("line 2"), HasSubstr("damaged"))) << line;
  }
  const auto nowhere = MeasuredPoints::Open(temp_ / "no/such/folder", info_);
  EXPECT_THAT(std::string(nowhere.status().message()), HasSubstr("no/such/folder"));
}

}  // namespace
}  // namespace rankine
