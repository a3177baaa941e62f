// The real model, from the GGUF as shipped: logits and 64 greedy tokens of 8 prompts against
// transformers' float32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/loader.h"

namespace rankine {
namespace {

struct Sequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> block_ids;
};

TEST(SmolLM2Test, LogitsAndGreedyTokensEqualTransformers) {
  const char* path = std::getenv("RANKINE_TEST_GGUF");
  ASSERT_NE(path, nullptr)
      << "set RANKINE_TEST_GGUF to SmolLM2's .gguf (tools/scripts/fetch_model.sh prints it)";
  std::ifstream file(std::string(RANKINE_TEST_DATA) + "/llama/smollm2.json");
  const nlohmann::json golden = nlohmann::json::parse(file)["prompts"];
  auto checkpoint = OpenCheckpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto device = MakeCpuDevice();
  ASSERT_TRUE(device.ok());
  auto model =
      LoadModel(**checkpoint, **device, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelShape& shape = (*model)->shape();

  constexpr int64_t kBlocksEach = 4;
  const auto count = static_cast<int64_t>(golden.size());
  auto cache = KvCache::Create(**device, {.num_layers = shape.num_layers,
                                          .kv_heads = shape.kv_heads,
                                          .head_dim = shape.head_dim,
                                          .num_blocks = kBlocksEach * count,
                                          .dtype = DType::kF32});
  auto workspace =
      (*model)->NewWorkspace({.max_tokens = 256, .max_logit_rows = count, .max_context = 128});
  ASSERT_TRUE(cache.ok() && workspace.ok());

  std::vector<Sequence> sequences(count);
  BatchInput batch;
  for (int64_t s = 0; s < count; ++s) {
    sequences[s].tokens = golden[s]["token_ids"].get<std::vector<int32_t>>();
    for (int64_t b = 0; b < kBlocksEach; ++b)
      sequences[s].block_ids.push_back(static_cast<int32_t>(b * count + s));
    batch.AddSequence(sequences[s].tokens.data(), static_cast<int64_t>(sequences[s].tokens.size()),
                      0, sequences[s].block_ids.data());
    batch.logit_rows.push_back(static_cast<int32_t>(batch.num_tokens()) - 1);
  }
  const auto new_tokens = golden[0]["greedy"].size();
  for (size_t step = 0; step < new_tokens; ++step) {
    const MatrixView logits = Forward(**model, batch, &*cache, **workspace);
    batch.Clear();
    for (int64_t s = 0; s < count; ++s) {
      const float* row = logits.Row<float>(s);
      if (step == 0) {
        const auto expected = golden[s]["logits"].get<std::vector<float>>();
        for (size_t i = 0; i < expected.size(); ++i) {
          // Logits are some tens in size; f32 sums of 30 layers agree to about 1e-5 of that.
          ASSERT_NEAR(row[i * 97], expected[i], 2e-3) << golden[s]["text"] << " logit " << i * 97;
        }
      }
      const auto token = static_cast<int32_t>(std::max_element(row, row + shape.vocab_size) - row);
      ASSERT_EQ(token, golden[s]["greedy"][step].get<int32_t>())
          << golden[s]["text"] << " at new token " << step << " (smallest margin of the golden "
          << golden[s]["smallest_margin"] << ")";
      sequences[s].tokens.push_back(token);
      batch.AddSequence(&sequences[s].tokens.back(), 1,
                        static_cast<int64_t>(sequences[s].tokens.size()) - 1,
                        sequences[s].block_ids.data());
      batch.logit_rows.push_back(static_cast<int32_t>(s));
    }
  }
}

}  // namespace
}  // namespace rankine
