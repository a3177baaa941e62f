#include "tools/synth/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "kernels/api/block_rows.h"
#include "models/checkpoint/checkpoint.h"
#include "models/encode/encoding_name.h"
#include "models/loader.h"
#include "models/text.h"
#include "tests/testing/tiny_model.h"
#include "tools/eval/window_runner.h"
#include "tools/synth/shapes.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::TinyLlamaConfig;

Encoding Parse(const std::string& text) { return *ParseEncoding(text); }

SynthOptions Tiny(FormOptions form, bool tied = false) {
  return {.config = TinyLlamaConfig({.hidden = 64, .intermediate = 96, .tied = tied}),
          .form = form,
          .seed = 3};
}

SynthReport MustWrite(const SynthOptions& options, const std::string& out) {
  auto report = SynthesizeModel(options, out);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.value_or(SynthReport{});
}

std::unique_ptr<Checkpoint> MustOpen(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

TEST(SynthesizeModel, EveryFormAndEncodingOpens) {
  const std::vector<FormOptions> forms = {
      {.form = SynthForm::kDense},
      {.form = SynthForm::kSvd, .rank = 16},
      {.form = SynthForm::kTucker, .rank = 16},
      {.form = SynthForm::kMpo, .bond = 4, .sites = 2},
      {.form = SynthForm::kMpo, .bond = 4, .sites = 3},
      {.form = SynthForm::kQlr, .rank = 16},
  };
  TempFolder temp;
  int count = 0;
  for (const char* name :
       {"bf16", "f32", "int4:g64", "int8:g32:offset", "int3:row", "nf4:g64", "int4:g32:k:offset"}) {
    for (FormOptions form : forms) {
      form.encoding = form.factor_encoding = Parse(name);
      const std::string out = temp / std::to_string(count++);
      SCOPED_TRACE(std::string(name) + ", form " + std::to_string(static_cast<int>(form.form)));
      const SynthReport report = MustWrite(Tiny(form), out);
      const auto checkpoint = MustOpen(out);
      ASSERT_NE(checkpoint, nullptr);
      EXPECT_TRUE(checkpoint->config().random_weights);
      const bool plain = form.form == SynthForm::kDense && form.encoding.IsFloat();
      // All linears of two layers; lm_head is dense, and in the manifest only where it is encoded.
      EXPECT_EQ(report.linears, 14);
      EXPECT_EQ(checkpoint->factored().size(), plain ? 0 : form.encoding.IsFloat() ? 14 : 15);
      int64_t bytes = 0;
      for (const TensorInfo& t : checkpoint->tensors()) bytes += t.stored_bytes;
      EXPECT_EQ(bytes, report.bytes);
      EXPECT_EQ(static_cast<int64_t>(checkpoint->tensors().size()), report.tensors);
    }
  }
}

TEST(SynthesizeModel, TheSameSeedGivesTheSameBytesOnAnyNumberOfThreads) {
  TempFolder temp;
  SynthOptions options = Tiny({.form = SynthForm::kQlr, .rank = 16, .encoding = Parse("int4:g64")});
  options.threads = 1;
  MustWrite(options, temp / "one");
  options.threads = 3;
  MustWrite(options, temp / "three");
  options.seed = 4;
  MustWrite(options, temp / "other");
  for (const char* name : {"/model.safetensors", "/factorization.json", "/config.json"}) {
    EXPECT_EQ(ReadWholeFile(temp / "one" + name), ReadWholeFile(temp / "three" + name)) << name;
  }
  EXPECT_NE(ReadWholeFile(temp / "one/model.safetensors"),
            ReadWholeFile(temp / "other/model.safetensors"));
}

TEST(SynthesizeModel, RunsWithFiniteLogitsOfUnitSize) {
  for (const FormOptions& form :
       {FormOptions{}, FormOptions{.form = SynthForm::kSvd, .keep = 0.5}}) {
    TempFolder temp;
    MustWrite(Tiny(form, true), temp / "m");
    const auto checkpoint = MustOpen(temp / "m");
    ASSERT_NE(checkpoint, nullptr);
    auto device = MakeCpuDevice({.num_threads = 1});
    ASSERT_TRUE(device.ok());
    auto model = LoadModel(*checkpoint, **device);
    ASSERT_TRUE(model.ok()) << model.status();
    auto runner = WindowRunner::Create(**model, {.window_tokens = 4, .max_logit_rows = 4});
    ASSERT_TRUE(runner.ok()) << runner.status();
    const std::vector<int32_t> tokens = {1, 2, 3, 4};
    runner->Begin({tokens});
    runner->Forward();
    const MatrixView logits = runner->Logits(0, 4);
    double squares = 0;
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t k = 0; k < logits.cols; ++k) {
        squares += std::pow(double{logits.Row<float>(row)[k]}, 2);
      }
    }
    // The head has unit gain on a normalised state: the mean square is near 1 (NaN fails both).
    const double mean = squares / static_cast<double>(4 * logits.cols);
    EXPECT_GT(mean, 0.3);
    EXPECT_LT(mean, 3);
  }
}

// What the codes, scales and offsets decode to: for each encoding about the same distribution.
TEST(SynthesizeModel, BlockEncodedValuesHaveTheirMeanAndVariance) {
  for (const char* name : {"int2:g32", "int3:g16:f32", "int4:g64", "int4:g32:offset", "int8:row",
                           "nf4:g64", "int4:g32:k:offset", "int6:g16:k8", "int4:g32:k:offset16"}) {
    TempFolder temp;
    SynthOptions options = Tiny({.encoding = Parse(name)});
    options.config.hidden_size = 512;
    options.config.head_dim = 128;
    MustWrite(options, temp / "m");
    const auto checkpoint = MustOpen(temp / "m");
    ASSERT_NE(checkpoint, nullptr) << name;
    const Core& core = checkpoint->factored()[0].terms[0].cores[0];
    BlockRowsBuffer rows;
    const absl::Status status = checkpoint->ReadBlockRows(core, 0, 512, 512, &rows);
    ASSERT_TRUE(status.ok()) << name << ": " << status;
    std::vector<float> values(512);
    double sum = 0, squares = 0;
    for (int64_t row = 0; row < 512; ++row) {
      DecodeBlockRow(rows.view(), row, values.data());
      for (const float v : values) {
        sum += v;
        squares += double{v} * v;
      }
    }
    const double n = 512 * 512, deviation = 1 / std::sqrt(512.0);
    // The mean of codes beside f16 offsets is 0.85 deviations, with a random sign for each of 1024
    // super-blocks; five standard errors of that. All others are nearer to zero.
    EXPECT_LT(std::abs(sum / n), 5 * 0.85 / std::sqrt(1024) * deviation) << name;
    EXPECT_NEAR(std::sqrt(squares / n), deviation, 0.3 * deviation) << name;
  }
}

TEST(SynthesizeModel, TheHeadHasAnEncodingOfItsOwn) {
  TempFolder temp;
  SynthOptions options = Tiny({.encoding = Parse("int4:g64")});
  options.head_encoding = Parse("f16");
  MustWrite(options, temp / "m");
  const auto checkpoint = MustOpen(temp / "m");
  ASSERT_NE(checkpoint, nullptr);
  ASSERT_NE(checkpoint->Find("lm_head.weight"), nullptr);
  EXPECT_EQ(checkpoint->Find("lm_head.weight")->stored_type, "F16");
  options = Tiny({.encoding = Parse("int4:g64")}, true);
  options.head_encoding = Parse("int4:g64");
  MustWrite(options, temp / "tied");
  const auto tied = MustOpen(temp / "tied");
  ASSERT_NE(tied, nullptr);
  EXPECT_EQ(tied->Find("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(tied->factored().size(), 15);
  EXPECT_EQ(tied->factored()[0].name, "model.embed_tokens");
  auto device = MakeCpuDevice({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  auto model = LoadModel(*tied, **device);
  EXPECT_TRUE(model.ok()) << model.status();
}

TEST(SynthesizeModel, LeavesNothingBehindOnErrors) {
  TempFolder temp;
  const SynthOptions bad = Tiny({.form = SynthForm::kSvd, .rank = 100});
  EXPECT_THAT(std::string(SynthesizeModel(bad, temp / "m").status().message()),
              HasSubstr("model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(std::filesystem::is_empty(temp.path()));
  MustWrite(Tiny({}), temp / "m");
  EXPECT_TRUE(absl::IsAlreadyExists(SynthesizeModel(Tiny({}), temp / "m").status()));
}

TEST(SynthesizeModel, SaysWhyThereIsNoTokenizer) {
  TempFolder temp;
  MustWrite(Tiny({}), temp / "m");
  const auto checkpoint = MustOpen(temp / "m");
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_THAT(std::string(TokenizerOf(*checkpoint).status().message()), HasSubstr("random"));
}

}  // namespace
}  // namespace rankine
