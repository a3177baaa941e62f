// Hidden states of small random BERT models against transformers' float32
// (tests/testing/generators/bert_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/bert.h"
#include "models/checkpoint/convert.h"
#include "models/loader.h"
#include "runtime/engine/engine.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kData = std::string(RANKINE_TEST_DATA) + "/bert/";
constexpr LoadOptions kF32{.weight_dtype = DType::kF32, .compute = DType::kF32};

struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<FactoredModel> model;
};

Loaded Open(const std::string& path, const LoadOptions& options,
            const CpuOptions& cpu = {.num_threads = 2}) {
  Loaded loaded;
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  loaded.checkpoint = *std::move(checkpoint);
  auto device = MakeCpuDevice(cpu);
  EXPECT_TRUE(device.ok()) << device.status();
  loaded.device = *std::move(device);
  auto model = LoadModel(*loaded.checkpoint, *loaded.device, options);
  EXPECT_TRUE(model.ok()) << model.status();
  loaded.model = *std::move(model);
  return loaded;
}

struct Sequence {
  std::vector<int32_t> ids, types;
};

std::vector<Sequence> GoldenSequences(const std::string& name) {
  std::ifstream file(kData + name + "/sequences.json");
  std::vector<Sequence> sequences;
  for (const auto& s : nlohmann::json::parse(file)) {
    sequences.push_back(
        {s["token_ids"].get<std::vector<int32_t>>(), s["token_types"].get<std::vector<int32_t>>()});
  }
  return sequences;
}

std::vector<float> GoldenStates(const std::string& name) {
  const std::string bytes = testing::ReadWholeFile(kData + name + "/hidden.bin");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Last hidden states of all sequences, run together in one pass or each alone.
std::vector<float> States(const Model& model, const std::vector<Sequence>& sequences,
                          bool together = true) {
  int64_t rows = 0;
  for (const Sequence& s : sequences) rows += static_cast<int64_t>(s.ids.size());
  const auto count = static_cast<int64_t>(sequences.size());
  auto workspace = model.NewWorkspace(
      {.max_tokens = rows, .max_context = model.shape().max_position, .max_sequences = count});
  EXPECT_TRUE(workspace.ok()) << workspace.status();
  std::vector<float> states;
  BatchInput batch;
  for (int64_t i = 0; i < count; ++i) {
    const Sequence& s = sequences[i];
    batch.AddSequence(s.ids.data(), static_cast<int64_t>(s.ids.size()), 0, nullptr);
    batch.token_types.insert(batch.token_types.end(), s.types.begin(), s.types.end());
    if (together && i + 1 < count) continue;
    Forward(model, batch, nullptr, **workspace);
    const MatrixView hidden = (*workspace)->hidden();
    for (int64_t row = 0; row < batch.num_tokens(); ++row) {
      states.insert(states.end(), hidden.Row<float>(row), hidden.Row<float>(row) + hidden.cols);
    }
    batch.Clear();
  }
  return states;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0, norm = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(sum / norm);
}

class GoldenBertTest : public ::testing::TestWithParam<std::string> {};

// Both sides sum in f32 in different orders: a few hundred roundings of 2^-24 on each path through
// two layers, hence a relative distance of some 1e-6; a wrong norm, mask, scale or bias gives 1e-2
// and more.
constexpr double kF32Tolerance = 5e-6;

TEST_P(GoldenBertTest, HiddenStatesEqualTransformers) {
  const std::vector<Sequence> sequences = GoldenSequences(GetParam());
  const std::vector<float> expected = GoldenStates(GetParam());
  std::vector<std::string> tables = {"ref"};
  for (const OpTable* ops : CpuOpTables()) tables.push_back(ops->name);
  for (const std::string& isa : tables) {
    const Loaded loaded = Open(kData + GetParam(), kF32, {.num_threads = 2, .isa = isa});
    EXPECT_LT(Distance(States(*loaded.model, sequences), expected), kF32Tolerance) << isa;
  }
}

TEST_P(GoldenBertTest, BatchesAndThreadsChangeNoBit) {
  const std::vector<Sequence> sequences = GoldenSequences(GetParam());
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const LoadOptions options{.weight_dtype = DType::kBF16, .compute = compute};
    const Loaded one = Open(kData + GetParam(), options, {.num_threads = 1});
    const Loaded three = Open(kData + GetParam(), options, {.num_threads = 3});
    const std::vector<float> alone = States(*one.model, sequences, /*together=*/false);
    EXPECT_EQ(States(*three.model, sequences), alone);
  }
}

// Rounding of weights and activations to 8 bits: 2^-9 a step, not amplified tenfold.
TEST_P(GoldenBertTest, LowerPrecisionStaysNear) {
  const Loaded bf16 =
      Open(kData + GetParam(), {.weight_dtype = DType::kBF16, .compute = DType::kBF16});
  const double distance =
      Distance(States(*bf16.model, GoldenSequences(GetParam())), GoldenStates(GetParam()));
  EXPECT_LT(distance, 0.05);
  EXPECT_GT(distance, kF32Tolerance);
}

INSTANTIATE_TEST_SUITE_P(Configs, GoldenBertTest,
                         ::testing::Values("plain", "odd_sizes", "prefixed"),
                         [](const auto& info) { return info.param; });

// Without types every token is of type 0.
TEST(BertTest, TokenTypesDefaultToZero) {
  const Loaded loaded = Open(kData + "plain", kF32);
  std::vector<Sequence> zeros = GoldenSequences("plain"), none = zeros;
  for (Sequence& s : zeros) std::fill(s.types.begin(), s.types.end(), 0);
  for (Sequence& s : none) s.types.clear();
  EXPECT_EQ(States(*loaded.model, none), States(*loaded.model, zeros));
  EXPECT_GT(Distance(States(*loaded.model, none), GoldenStates("plain")), 0.01);
}

TEST(BertTest, NamesAreCanonicalAndHeadsAreLeftOut) {
  EXPECT_EQ(CanonicalBertName("bert.encoder.layer.0.output.LayerNorm.gamma"),
            "encoder.layer.0.output.LayerNorm.weight");
  EXPECT_EQ(CanonicalBertName("embeddings.LayerNorm.beta"), "embeddings.LayerNorm.bias");
  EXPECT_EQ(CanonicalBertName("cls.predictions.bias"), "");
  EXPECT_EQ(CanonicalBertName("bert.embeddings.position_ids"), "");
  auto checkpoint = OpenCheckpoint(kData + "prefixed");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_NE((*checkpoint)->Find("encoder.layer.1.attention.self.query.weight"), nullptr);
  EXPECT_EQ((*checkpoint)->Find("bert.encoder.layer.1.attention.self.query.weight"), nullptr);
  EXPECT_THAT((*checkpoint)->unused_tensors(), ::testing::Contains("cls.predictions.bias"));
}

// A converted folder has the layout's names, and the same model in it.
TEST(BertTest, ConvertingKeepsTheModel) {
  testing::TempFolder temp;
  for (const char* name : {"plain", "prefixed", "odd_sizes"}) {
    auto source = OpenCheckpoint(kData + name);
    ASSERT_TRUE(source.ok()) << source.status();
    const std::string out = temp / name;
    ASSERT_TRUE(ConvertModel(**source, out, DType::kF32, {}).ok());
    const Loaded loaded = Open(out, kF32);
    EXPECT_LT(Distance(States(*loaded.model, GoldenSequences(name)), GoldenStates(name)),
              kF32Tolerance);
    EXPECT_EQ(loaded.checkpoint->config().layer_norm_eps, (*source)->config().layer_norm_eps);
    EXPECT_EQ(loaded.checkpoint->config().type_vocab_size, (*source)->config().type_vocab_size);
    EXPECT_TRUE(loaded.checkpoint->unused_tensors().empty());
  }
}

// The linears in 8-bit blocks, read by int8 activations.
TEST(BertTest, BlockEncodedLinearsRun) {
  testing::TempFolder temp;
  auto source = OpenCheckpoint(kData + "plain");
  ASSERT_TRUE(source.ok()) << source.status();
  Encoding encoding = Encoding::Float(DType::kF32);
  encoding = {.kind = EncodingKind::kAffine, .bits = 8, .group = 32};
  ConvertOptions options{.dtype = DType::kF32};
  options.encode = EncodingTarget{.encoding = encoding};
  auto report = ConvertModel(**source, temp / "int8", options, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->cores.size(), 2u * 6u + 1u);  // and the pooler
  const Loaded loaded = Open(temp / "int8", {});
  EXPECT_LT(Distance(States(*loaded.model, GoldenSequences("plain")), GoldenStates("plain")), 0.05);
}

TEST(BertTest, GeneratesNothing) {
  const Loaded loaded = Open(kData + "plain", kF32);
  auto engine = Engine::Start(*loaded.model, {});
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("encoder"));
}

// The message of opening `plain` with one key of config.json replaced.
std::string ErrorWith(const std::string& key, const nlohmann::json& value) {
  testing::TempFolder temp;
  const std::string folder = temp / "m";
  std::filesystem::copy(kData + "plain", folder);
  std::ifstream file(kData + "plain/config.json");
  auto config = nlohmann::json::parse(file);
  config[key] = value;
  testing::WriteWholeFile(folder + "/config.json", config.dump());
  return std::string(OpenCheckpoint(folder).status().message());
}

TEST(BertTest, RefusesWhatItCannotRun) {
  EXPECT_THAT(ErrorWith("hidden_act", "gelu_new"),
              AllOf(HasSubstr("hidden_act"), HasSubstr("gelu_new")));
  EXPECT_THAT(ErrorWith("position_embedding_type", "relative_key"),
              HasSubstr("position_embedding_type"));
  EXPECT_THAT(ErrorWith("is_decoder", true), HasSubstr("is_decoder"));
  EXPECT_THAT(ErrorWith("num_attention_heads", 3), HasSubstr("num_attention_heads 3"));
  EXPECT_THAT(ErrorWith("num_attention_heads", 0), HasSubstr("num_attention_heads 0"));
  EXPECT_THAT(ErrorWith("layer_norm_eps", 0), HasSubstr("layer_norm_eps"));
  EXPECT_THAT(ErrorWith("type_vocab_size", 0), HasSubstr("type_vocab_size"));
  EXPECT_THAT(ErrorWith("max_position_embeddings", 71),
              HasSubstr("embeddings.position_embeddings.weight"));
  EXPECT_THAT(ErrorWith("num_hidden_layers", 3), HasSubstr("encoder.layer.2"));
  EXPECT_THAT(ErrorWith("num_hidden_layers", 1), HasSubstr("unexpected tensor encoder.layer.1"));
}

}  // namespace
}  // namespace rankine
