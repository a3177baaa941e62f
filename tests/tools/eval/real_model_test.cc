// The demo model against transformers, in f32 (tests/testing/generators/perplexity.py).
#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "models/loader.h"
#include "models/text.h"
#include "nlohmann/json.hpp"
#include "tools/eval/perplexity.h"
#include "tools/eval/token_windows.h"

namespace rankine {
namespace {

TEST(RealModelTest, PerplexityEqualsTransformers) {
  const char* path = std::getenv("RANKINE_TEST_GGUF");
  ASSERT_NE(path, nullptr) << "set RANKINE_TEST_GGUF to SmolLM2-135M-Instruct.Q4_1.gguf, or run "
                              "bash tools/test.sh, which fetches it";
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/eval/perplexity.json");
  const auto golden = nlohmann::json::parse(in);
  const auto checkpoint = OpenCheckpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto device = MakeCpuDevice();
  const auto model =
      LoadModel(**checkpoint, **device, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = TokenizerOf(**checkpoint);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto result =
      PerplexityOfFile(**model, **tokenizer, std::string(RANKINE_TEST_DATA) + "/eval/text.txt",
                       {.context = golden.at("context")});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->windows, golden.at("windows"));
  EXPECT_EQ(result->tokens, golden.at("tokens"));
  // Both sum in f32, in other orders: 60 sums of at most 1536 terms lie one after another, each
  // with a relative error of about sqrt(1536) 2^-24, so logits of size 20 differ by about
  // sqrt(60 x 1536) 2^-24 x 20 = 4e-4 at random, and the mean loss by less.
  const double perplexity = golden.at("perplexity");
  EXPECT_NEAR(result->perplexity, perplexity, 4e-4 * perplexity);
  EXPECT_NEAR(result->standard_error.value(), golden.at("standard_error"), 4e-4 * perplexity);
}

}  // namespace
}  // namespace rankine
