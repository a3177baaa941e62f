#include "tools/compress/fisher_file.h"

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/safetensors_writer.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TempFolder;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// The path of a safetensors file of these.
std::string WriteFile(const std::string& folder, const std::vector<Tensor>& tensors) {
  std::filesystem::create_directories(folder);
  std::vector<TensorSpec> specs;
  for (const Tensor& t : tensors) specs.push_back({t.name, DType::kF32, t.shape});
  auto writer = SafetensorsWriter::Create(folder, specs);
  EXPECT_TRUE(writer.ok()) << writer.status();
  for (const Tensor& t : tensors) {
    EXPECT_TRUE(
        writer->Append(t.name, t.values.data(), static_cast<int64_t>(t.values.size() * 4)).ok());
  }
  EXPECT_TRUE(writer->Finish().ok());
  return folder + "/model.safetensors";
}

TEST(FisherFileTest, ReadsFeaturesOrSumsWeights) {
  const TempFolder temp;
  const auto file = FisherFile::Open(WriteFile(
      temp / "f", {{"a.fisher", {3}, {1, 2, 0}}, {"b.weight", {2, 3}, {1, 2, 3, 4, 5, 6}}}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*file->Read("a", 7, 3), (std::vector<double>{1, 2, 0}));
  EXPECT_EQ(*file->Read("b", 2, 3), (std::vector<double>{5, 7, 9}));
}

TEST(FisherFileTest, RefusesWhatIsNoFisher) {
  const TempFolder temp;
  const auto file = FisherFile::Open(WriteFile(
      temp / "f",
      {{"a.fisher", {2}, {1, -1}}, {"b.fisher", {2}, {NAN, 1}}, {"c.fisher", {3}, {1, 2, 3}}}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(std::string(file->Read("a", 2, 2).status().message()), HasSubstr("a.fisher"));
  EXPECT_THAT(std::string(file->Read("b", 2, 2).status().message()), HasSubstr("not negative"));
  EXPECT_THAT(std::string(file->Read("c", 2, 2).status().message()), HasSubstr("[2]"));
  EXPECT_THAT(std::string(file->Read("d", 2, 2).status().message()), HasSubstr("another model"));
  EXPECT_FALSE(FisherFile::Open(temp / "none").ok());
  testing::WriteWholeFile(temp / "junk", "not safetensors");
  EXPECT_THAT(std::string(FisherFile::Open(temp / "junk").status().message()), HasSubstr("junk"));
}

TEST(FisherFileTest, FwsvdUsesItAndSaysHowToMakeIt) {
  const TempFolder temp;
  WriteTinyModelWithTokenizer(temp / "model", testing::TinyOptions());
  FactorizeOptions o{.method = "fwsvd", .keep = 0.6, .only_regex = "layers\\.1\\.mlp\\.up"};
  EXPECT_THAT(std::string(Factorize(temp / "model", temp / "out", o).status().message()),
              AllOf(HasSubstr("tools/torch"), HasSubstr("--fisher")));
  std::vector<float> weights(32);
  for (int i = 0; i < 32; ++i) weights[i] = static_cast<float>(1 + i % 5);
  o.fisher_file = WriteFile(temp / "f", {{"model.layers.1.mlp.up_proj.fisher", {32}, weights}});
  const auto report = Factorize(temp / "model", temp / "out", o);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->layers.at(0).rank, 0);
}

}  // namespace
}  // namespace rankine
