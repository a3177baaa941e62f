#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tools/measure/profile.h"

namespace rankine {
namespace {

using testing::HasSubstr;

class ProfileFileTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/rankine-profile-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(ProfileFileTest, KeepsEveryFigure) {
  const DeviceProfile profile{.read_bytes_per_second = 1e9,
                              .f32_flops_per_second = 2e9,
                              .bf16_flops_per_second = 3e9,
                              .int8_flops_per_second = 4e9,
                              .few_int8_flops_per_second = 3.5e9,
                              .step_seconds = 5e-6,
                              .store_seconds = 6e-9,
                              .l2_bytes_per_second = 6e9,
                              .l3_bytes_per_second = 7e9,
                              .l2_bytes = 8,
                              .l3_bytes = 9};
  const std::string path = folder_ + "/new/profile.json";
  ASSERT_TRUE(SaveProfile(profile, path).ok());
  const auto loaded = LoadProfile(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->read_bytes_per_second, 1e9);
  EXPECT_EQ(loaded->f32_flops_per_second, 2e9);
  EXPECT_EQ(loaded->bf16_flops_per_second, 3e9);
  EXPECT_EQ(loaded->int8_flops_per_second, 4e9);
  EXPECT_EQ(loaded->few_int8_flops_per_second, 3.5e9);
  EXPECT_EQ(loaded->step_seconds, 5e-6);
  EXPECT_EQ(loaded->store_seconds, 6e-9);
  EXPECT_EQ(loaded->l2_bytes_per_second, 6e9);
  EXPECT_EQ(loaded->l3_bytes_per_second, 7e9);
  EXPECT_EQ(loaded->l2_bytes, 8);
  EXPECT_EQ(loaded->l3_bytes, 9);
}

TEST_F(ProfileFileTest, FaultyFilesAreNamed) {
  const std::string path = folder_ + "/profile.json";
  EXPECT_EQ(LoadProfile(path).status().code(), absl::StatusCode::kNotFound);
  for (const char* text :
       {"", "[]", "{", "{\"read_bytes_per_second\": 0}", "{\"read_bytes_per_second\": \"fast\"}",
        "{\"read_bytes_per_second\": -1}"}) {
    std::ofstream(path) << text;
    const auto loaded = LoadProfile(path);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(path));
  }
}

TEST_F(ProfileFileTest, ThePathIsOfTheDevice) {
  setenv("RANKINE_HOME", folder_.c_str(), 1);
  auto one = MakeCpuDevice({.num_threads = 1}), two = MakeCpuDevice({.num_threads = 2});
  ASSERT_TRUE(one.ok() && two.ok());
  const auto path = ProfilePath(**one);
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_THAT(*path, testing::StartsWith(folder_ + "/profile-"));
  EXPECT_NE(*path, *ProfilePath(**two));
  EXPECT_EQ(*path, *ProfilePath(**one));
  unsetenv("RANKINE_HOME");
}

}  // namespace
}  // namespace rankine
