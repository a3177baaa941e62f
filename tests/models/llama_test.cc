// Logits of small random Llama models against transformers' float32
// (tests/testing/generators/llama_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/checkpoint/manifest.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/loader.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using testing::TempFolder;
using testing::TinyLlamaOptions;

const std::string kData = std::string(RANKINE_TEST_DATA) + "/llama/";

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

constexpr LoadOptions kF32{.weight_dtype = DType::kF32, .compute = DType::kF32};

// Logits of every position, the tokens fed in chunks of the given size over scattered cache blocks.
std::vector<float> Logits(const Model& model, const std::vector<int32_t>& tokens, int64_t chunk,
                          DType kv_dtype = DType::kF32) {
  const ModelShape& shape = model.shape();
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t blocks = CeilDiv(count, kKvBlockTokens);
  auto cache = KvCache::Create(model.device(), {.num_layers = shape.num_layers,
                                                .kv_heads = shape.kv_heads,
                                                .head_dim = shape.head_dim,
                                                .num_blocks = 2 * blocks,
                                                .dtype = kv_dtype});
  auto workspace =
      model.NewWorkspace({.max_tokens = chunk, .max_logit_rows = chunk, .max_context = count});
  EXPECT_TRUE(cache.ok() && workspace.ok());
  std::vector<int32_t> ids;
  for (int64_t b = 0; b < blocks; ++b) ids.push_back(static_cast<int32_t>(2 * (blocks - b) - 1));
  std::vector<float> result;
  BatchInput batch;
  for (int64_t done = 0; done < count; done += chunk) {
    const int64_t n = std::min(chunk, count - done);
    batch.Clear();
    batch.AddSequence(tokens.data() + done, n, done, ids.data());
    for (int64_t i = 0; i < n; ++i) batch.logit_rows.push_back(static_cast<int32_t>(i));
    const MatrixView logits = Forward(model, batch, &*cache, **workspace);
    for (int64_t i = 0; i < n; ++i) {
      result.insert(result.end(), logits.Row<float>(i), logits.Row<float>(i) + shape.vocab_size);
    }
  }
  return result;
}

std::vector<int32_t> GoldenTokens(const std::string& name) {
  std::ifstream file(kData + name + "/tokens.json");
  return nlohmann::json::parse(file).get<std::vector<int32_t>>();
}

std::vector<float> GoldenLogits(const std::string& name) {
  const std::string bytes = testing::ReadWholeFile(kData + name + "/logits.bin");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

double Norm(const std::vector<float>& v) {
  return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> d(a.size());
  for (size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  return Norm(d);
}

class GoldenLlamaTest : public ::testing::TestWithParam<std::string> {};

// Both sides sum in f32 in different orders: a few hundred roundings of 2^-24 on each path through
// two layers, hence a relative distance of some 1e-5; a wrong frequency, scale, bias or head gives
// 1e-2 and more.
constexpr double kF32Tolerance = 2e-5;

TEST_P(GoldenLlamaTest, LogitsEqualTransformers) {
  const std::vector<int32_t> tokens = GoldenTokens(GetParam());
  const std::vector<float> expected = GoldenLogits(GetParam());
  for (const char* isa : {"ref", ""}) {
    const Loaded loaded = Open(kData + GetParam(), kF32, {.num_threads = 2, .isa = isa});
    const std::vector<float> logits = Logits(*loaded.model, tokens, 80);
    ASSERT_EQ(logits.size(), expected.size());
    EXPECT_LT(Distance(logits, expected), kF32Tolerance * Norm(expected)) << "isa '" << isa << "'";
  }
}

TEST_P(GoldenLlamaTest, EveryInstructionSetOfTheMachineAgrees) {
  const std::vector<int32_t> tokens = GoldenTokens(GetParam());
  const std::vector<float> expected = GoldenLogits(GetParam());
  for (const OpTable* ops : CpuOpTables()) {
    const Loaded loaded = Open(kData + GetParam(), kF32, {.num_threads = 1, .isa = ops->name});
    EXPECT_LT(Distance(Logits(*loaded.model, tokens, 80), expected), kF32Tolerance * Norm(expected))
        << ops->name;
  }
}

TEST_P(GoldenLlamaTest, ChunksAndThreadsChangeNoBit) {
  const std::vector<int32_t> tokens = GoldenTokens(GetParam());
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const LoadOptions options{.weight_dtype = DType::kBF16, .compute = compute};
    const Loaded one = Open(kData + GetParam(), options, {.num_threads = 1});
    const Loaded three = Open(kData + GetParam(), options, {.num_threads = 3});
    for (const DType kv : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      const std::vector<float> whole = Logits(*one.model, tokens, 80, kv);
      for (const int64_t chunk : {1, 7, 33}) {
        const std::vector<float> pieces = Logits(*three.model, tokens, chunk, kv);
        ASSERT_EQ(std::memcmp(pieces.data(), whole.data(), whole.size() * sizeof(float)), 0)
            << "chunk " << chunk << ", kv " << Name(kv);
      }
    }
  }
}

// Rounding of activations and cache to 8 or 11 bits: errors of 2^-9 a step, which random layers of
// this depth do not amplify tenfold.
TEST_P(GoldenLlamaTest, LowerPrecisionStaysNear) {
  const std::vector<int32_t> tokens = GoldenTokens(GetParam());
  const std::vector<float> expected = GoldenLogits(GetParam());
  const Loaded bf16 =
      Open(kData + GetParam(), {.weight_dtype = DType::kBF16, .compute = DType::kBF16});
  EXPECT_LT(Distance(Logits(*bf16.model, tokens, 80, DType::kF16), expected),
            0.05 * Norm(expected));
  const Loaded f16 =
      Open(kData + GetParam(), {.weight_dtype = DType::kF16, .compute = DType::kF32});
  EXPECT_LT(Distance(Logits(*f16.model, tokens, 80, DType::kI8), expected), 0.05 * Norm(expected));
  EXPECT_GT(Distance(Logits(*bf16.model, tokens, 80, DType::kF16), expected), 0);
}

INSTANTIATE_TEST_SUITE_P(Configs, GoldenLlamaTest,
                         ::testing::Values("gqa_tied", "untied_linear_rope", "llama3_rope",
                                           "biases", "odd_sizes"),
                         [](const auto& info) { return info.param; });

std::vector<int32_t> SomeTokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((i * 37 + 11) % vocab);
  return tokens;
}

TEST(FactoredLlamaTest, FactoredEqualsItsProductStoredDense) {
  TempFolder temp;
  TinyLlamaOptions options{.factored_rank = 6};
  testing::WriteTinyLlama(temp / "factored", options);
  options.store_product = true;
  testing::WriteTinyLlama(temp / "dense", options);
  const Loaded factored = Open(temp / "factored", kF32), dense = Open(temp / "dense", kF32);
  EXPECT_EQ(factored.checkpoint->factored().size(), 14u);
  EXPECT_LT(factored.model->weight_bytes(), dense.model->weight_bytes());
  for (const LinearGroup* group : factored.model->groups()) {
    const bool is_head = group == factored.model->groups().back();
    EXPECT_EQ(group->dense_core(0).data != nullptr, is_head) << group->name();
  }
  const std::vector<int32_t> tokens = SomeTokens(50, 96);
  const std::vector<float> a = Logits(*factored.model, tokens, 50),
                           b = Logits(*dense.model, tokens, 50);
  // The product is rounded to f32 once more than the factors.
  EXPECT_LT(Distance(a, b), kF32Tolerance * Norm(b));
  EXPECT_GT(Distance(a, b), 0);
}

TEST(FactoredLlamaTest, BiasesAndUntiedHeadRunFactored) {
  TempFolder temp;
  TinyLlamaOptions options{.tied = false, .biases = true, .factored_rank = 5};
  testing::WriteTinyLlama(temp / "factored", options);
  options.store_product = true;
  testing::WriteTinyLlama(temp / "dense", options);
  const Loaded factored = Open(temp / "factored", kF32), dense = Open(temp / "dense", kF32);
  const std::vector<int32_t> tokens = SomeTokens(40, 96);
  const std::vector<float> b = Logits(*dense.model, tokens, 40);
  EXPECT_LT(Distance(Logits(*factored.model, tokens, 40), b), kF32Tolerance * Norm(b));
}

TEST(LoaderTest, MemoryIsThatOfTheFactors) {
  TempFolder temp;
  testing::WriteTinyLlama(
      temp / "m", {.hidden = 256, .intermediate = 512, .dtype = DType::kBF16, .factored_rank = 32});
  const Loaded loaded = Open(temp / "m", {});
  int64_t dense = 0;
  for (const LinearGroup* group : loaded.model->groups()) {
    for (const FactoredMatrix& m : group->matrices()) dense += m.out_features * m.in_features * 2;
  }
  EXPECT_LT(loaded.model->weight_bytes(), dense / 2);
}

// Rows of the stored tensors are wider than the matrix: only its part is read, and held.
TEST(LoaderTest, FactorsThatAreAPartOfStoredTensorsTakeTheirPart) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {.factored_rank = 12});
  auto whole = OpenCheckpoint(temp / "m");
  ASSERT_TRUE(whole.ok()) << whole.status();
  std::vector<FactoredMatrix> matrices = (*whole)->factored();
  auto device = MakeCpuDevice({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  auto before = LoadModel(**whole, **device, kF32);
  ASSERT_TRUE(before.ok()) << before.status();
  for (Core& core : matrices[0].terms[0].cores) {
    for (LegRange& leg : core.legs) {
      if (leg.name == "r") leg = {"r", 0, 2, 12};
    }
  }
  testing::WriteWholeFile(temp / "m/factorization.json", SerializeManifest(matrices));
  auto part = OpenCheckpoint(temp / "m");
  ASSERT_TRUE(part.ok()) << part.status();
  auto after = LoadModel(**part, **device, kF32);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_LT((*after)->weight_bytes(), (*before)->weight_bytes());
}

// The model of `from` with the matrices whose name contains a key stored in that dtype.
void StoreMatricesAs(const std::string& from, const std::string& to,
                     const std::map<std::string, DType>& dtypes) {
  auto source = OpenCheckpoint(from);
  ASSERT_TRUE(source.ok()) << source.status();
  std::vector<TensorSpec> specs;
  for (const TensorInfo& tensor : (*source)->tensors()) {
    specs.push_back({tensor.name, DType::kF32, tensor.shape});
    for (const auto& [part, dtype] : dtypes) {
      if (tensor.name.find(part) != std::string::npos) specs.back().dtype = dtype;
    }
  }
  std::filesystem::create_directories(to);
  testing::WriteWholeFile(to + "/config.json", testing::ReadWholeFile(from + "/config.json"));
  auto writer = SafetensorsWriter::Create(to, specs);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const TensorSpec& spec : specs) {
    const int64_t rows = spec.shape.size() == 1 ? 1 : spec.shape[0];
    std::vector<char> values(rows * spec.shape.back() * SizeOf(spec.dtype));
    ASSERT_TRUE(
        (*source)->ReadRows(*(*source)->Find(spec.name), 0, rows, spec.dtype, values.data()).ok());
    ASSERT_TRUE(writer->Append(spec.name, values.data(), static_cast<int64_t>(values.size())).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

TEST(LoaderTest, AGroupOfSeveralTypesIsHeldInOneThatNarrowsNone) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {.layers = 1});
  const auto first_group = [&](DType q, DType k, DType v) {
    StoreMatricesAs(temp / "m", temp / "mixed", {{"q_proj", q}, {"k_proj", k}, {"v_proj", v}});
    const DType held = Open(temp / "mixed", {}).model->groups()[0]->weight_dtype();
    std::filesystem::remove_all(temp / "mixed");
    return held;
  };
  constexpr DType kB = DType::kBF16, kH = DType::kF16, kS = DType::kF32;
  EXPECT_EQ(first_group(kB, kB, kB), kB);
  EXPECT_EQ(first_group(kH, kH, kH), kH);
  EXPECT_EQ(first_group(kB, kH, kH), kS);
  EXPECT_EQ(first_group(kH, kB, kB), kS);
  EXPECT_EQ(first_group(kB, kB, kS), kS);
}

TEST(LoaderTest, AWorkspaceLargerThanAnyMachineIsRefused) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {});
  const Loaded loaded = Open(temp / "m", {});
  for (const int64_t tokens : {int64_t{1} << 50, INT64_MAX / 2, INT64_MAX}) {
    for (const ForwardLimits& limits :
         {ForwardLimits{.max_tokens = tokens, .max_logit_rows = 1, .max_context = 16},
          ForwardLimits{.max_tokens = 1, .max_logit_rows = tokens, .max_context = 16}}) {
      const auto workspace = loaded.model->NewWorkspace(limits);
      EXPECT_EQ(workspace.status().code(), absl::StatusCode::kResourceExhausted)
          << workspace.status();
    }
  }
}

}  // namespace
}  // namespace rankine
