// ConvertModel into E8P, whose scale is that of a whole matrix, and out of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "models/checkpoint/convert.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using testing::Decode;
using testing::FindMatrix;
using ::testing::HasSubstr;
using testing::MustConvert;
using testing::MustOpen;
using testing::ReadAll;
using testing::ReadWholeFile;
using testing::Rewrite;
using testing::Rounded;
using testing::Rule;
using testing::Target;
using testing::TempFolder;
using testing::WriteTinyLlama;

// A matrix larger than what is in memory at a time has the scale of all of it.
TEST(ConvertEncode, E8PTakesOneScaleOverAllBlocks) {
  TempFolder temp;
  constexpr int64_t kHidden = 512, kWide = 4224;
  WriteTinyLlama(temp / "src", {.hidden = kHidden, .intermediate = kWide, .layers = 1});
  // Rows of the second block (from row 4096 on) are much larger than the others.
  const std::string name = "model.layers.0.mlp.up_proj";
  Rewrite(temp / "src", temp / "uneven", {}, [&](const std::string& tensor, std::string* bytes) {
    if (tensor != name + ".weight") return;
    std::vector<float> values(bytes->size() / 4);
    std::memcpy(values.data(), bytes->data(), bytes->size());
    for (size_t i = 4096 * kHidden; i < values.size(); ++i) values[i] *= 30;
    std::memcpy(bytes->data(), values.data(), bytes->size());
  });
  MustConvert(temp / "uneven", temp / "dst", {.map = {Rule("up_proj", "e8p")}});
  const auto source = MustOpen(temp / "uneven"), copy = MustOpen(temp / "dst");
  const Core& core = FindMatrix(*copy, name)->terms[0].cores[0];
  EXPECT_EQ(copy->Find(core.TensorOf("scales"))->shape, (std::vector<int64_t>{1}));
  EXPECT_EQ(Decode(*copy, core),
            Rounded(ReadAll(*source, name + ".weight"), kHidden, core.encoding));
}

TEST(ConvertEncode, E8PBecomesOtherEncodings) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  MustConvert(temp / "src", temp / "e8p", {.encode = Target("e8p")});
  MustConvert(temp / "e8p", temp / "same", {.encode = Target("e8p")});
  EXPECT_EQ(ReadWholeFile(temp / "same/model.safetensors"),
            ReadWholeFile(temp / "e8p/model.safetensors"));
  const std::string q = "model.layers.0.self_attn.q_proj";
  const auto core_of = [&](const Checkpoint& checkpoint) {
    return FindMatrix(checkpoint, q)->terms[0].cores[0];
  };
  const auto encoded = MustOpen(temp / "e8p");
  const std::vector<float> decoded = Decode(*encoded, core_of(*encoded));
  MustConvert(temp / "e8p", temp / "f32", {.encode = Target("f32")});
  const auto floats = MustOpen(temp / "f32");
  EXPECT_EQ(ReadAll(*floats, core_of(*floats).TensorOf("values")), decoded);
  MustConvert(temp / "e8p", temp / "int4", {.encode = Target("int4:g16")});
  const auto other = MustOpen(temp / "int4");
  EXPECT_EQ(Decode(*other, core_of(*other)), Rounded(decoded, 32, Target("int4:g16").encoding));
}

TEST(ConvertEncode, E8PNamesTheLinearThatIsNotWholeCodewords) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.intermediate = 44});
  auto source = MustOpen(temp / "src");
  auto report = ConvertModel(*source, temp / "dst", ConvertOptions{.encode = Target("e8p")});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr("model.layers.0.mlp.down_proj"), HasSubstr("rows of 44 weights")));
  EXPECT_FALSE(std::filesystem::exists(temp / "dst"));
  WriteTinyLlama(temp / "factored", {.kv_heads = 4, .factored_rank = 20});
  source = MustOpen(temp / "factored");
  report = ConvertModel(*source, temp / "dst", ConvertOptions{.encode = Target("e8p")});
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr("q_proj: core U"), HasSubstr("rows of 20 weights")));
}

TEST(ConvertEncode, E8PNamesTheTensorOfABadWeight) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  Rewrite(temp / "src", temp / "big", {}, [&](const std::string& tensor, std::string* bytes) {
    const float big = 1e33f;
    if (tensor == name) std::memcpy(bytes->data() + 4 * (7 * 32 + 20), &big, 4);
  });
  const auto source = MustOpen(temp / "big");
  const auto report = ConvertModel(*source, temp / "dst", {.encode = Target("e8p")});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr(name), HasSubstr("at row 7, column 20")));
}

}  // namespace
}  // namespace rankine
