#include "models/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kBase[] =
    R"("model_type":"llama","vocab_size":100,"hidden_size":64,"intermediate_size":96,)"
    R"("num_hidden_layers":2,"num_attention_heads":4)";

absl::StatusOr<ModelConfig> Parse(const std::string& more) {
  const auto json =
      JsonValue::Parse(absl::StrCat("{", kBase, more.empty() ? "" : ",", more, "}"), "config.json");
  if (!json.ok()) return json.status();
  return ParseModelConfig(*json);
}

std::string ErrorOf(const std::string& more) {
  const auto config = Parse(more);
  return config.ok() ? "ok" : std::string(config.status().message());
}

TEST(ModelConfig, FillsInDefaults) {
  const auto c = Parse("");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->architecture, "llama");
  EXPECT_EQ(c->num_kv_heads, 4);
  EXPECT_EQ(c->head_dim, 16);
  EXPECT_EQ(c->rope.theta, 10000.0);
  EXPECT_EQ(c->rope.type, RopeType::kDefault);
  EXPECT_FALSE(c->tie_embeddings);
  EXPECT_EQ(c->bos_id, -1);
  EXPECT_TRUE(c->eos_ids.empty());
}

TEST(ModelConfig, ReadsBothSpellingsOfRope) {
  auto c = Parse(R"("rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2})");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->rope.type, RopeType::kLinear);
  EXPECT_EQ(c->rope.theta, 5e5);
  EXPECT_EQ(c->rope.factor, 2.0);
  const std::string llama3 =
      R"("rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,)"
      R"("original_max_position_embeddings":512)";
  for (const std::string& text :
       {absl::StrCat(R"("rope_theta":500000,"rope_scaling":{)", llama3, "}"),
        absl::StrCat(R"("rope_parameters":{"rope_theta":500000,)", llama3, "}")}) {
    c = Parse(text);
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(c->rope.type, RopeType::kLlama3);
    EXPECT_EQ(c->rope.theta, 5e5);
    EXPECT_EQ(c->rope.factor, 8.0);
    EXPECT_EQ(c->rope.original_max_position, 512);
  }
  EXPECT_EQ(ErrorOf(R"("rope_scaling":null)"), "ok");
}

TEST(ModelConfig, RefusesUnknownRope) {
  EXPECT_THAT(ErrorOf(R"("rope_scaling":{"rope_type":"yarn","factor":2})"),
              AllOf(HasSubstr("rope_scaling.rope_type"), HasSubstr("\"yarn\"")));
  EXPECT_THAT(ErrorOf(R"("rope_parameters":{"rope_type":"longrope"})"), HasSubstr("\"longrope\""));
  EXPECT_THAT(ErrorOf(R"("rope_scaling":{"type":"linear"})"), HasSubstr("\"factor\" is missing"));
  EXPECT_THAT(ErrorOf(R"("rope_scaling":{"type":"linear","factor":-2})"), HasSubstr("factor"));
  EXPECT_THAT(ErrorOf(R"("partial_rotary_factor":0.5)"), HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(ErrorOf(R"("rope_theta":"x")"), HasSubstr("rope_theta"));
}

TEST(ModelConfig, ReadsTokenIds) {
  auto c = Parse(R"("bos_token_id":1,"eos_token_id":[2,5])");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->bos_id, 1);
  EXPECT_EQ(c->eos_ids, std::vector<int32_t>({2, 5}));
  const auto more = JsonValue::Parse(R"({"eos_token_id":[5,7]})", "generation_config.json");
  ASSERT_TRUE(MergeGenerationConfig(*more, &*c).ok());
  EXPECT_EQ(c->eos_ids, std::vector<int32_t>({2, 5, 7}));
  EXPECT_THAT(ErrorOf(R"("eos_token_id":100)"), AllOf(HasSubstr("eos_token_id"), HasSubstr("100")));
  EXPECT_THAT(ErrorOf(R"("eos_token_id":[1,"2"])"), HasSubstr("eos_token_id[1]"));
}

TEST(ModelConfig, RefusesWhatItCannotRun) {
  EXPECT_THAT(ErrorOf(R"("hidden_act":"gelu")"), AllOf(HasSubstr("hidden_act"), HasSubstr("silu")));
  EXPECT_THAT(ErrorOf(R"("quantization_config":{})"), HasSubstr("quantization_config"));
  EXPECT_THAT(ErrorOf(R"("sliding_window":4096)"), HasSubstr("sliding_window"));
  const auto json = JsonValue::Parse(R"({"model_type":"mamba"})", "config.json");
  EXPECT_THAT(std::string(ParseModelConfig(*json).status().message()),
              AllOf(HasSubstr("\"mamba\""), HasSubstr("supported: llama")));
}

TEST(ModelConfig, ChecksValues) {
  EXPECT_THAT(ErrorOf(R"("num_key_value_heads":3)"), HasSubstr("num_key_value_heads 3"));
  EXPECT_THAT(ErrorOf(R"("num_key_value_heads":0)"), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(ErrorOf(R"("head_dim":15)"), HasSubstr("head_dim 15"));
  EXPECT_THAT(ErrorOf(R"("head_dim":-16)"), HasSubstr("head_dim"));
  // What the kernels take, no more.
  EXPECT_THAT(ErrorOf(R"("head_dim":258)"), HasSubstr("head_dim: 258 is not between 1 and 256"));
  EXPECT_THAT(ErrorOf(R"("rms_norm_eps":0)"), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(ErrorOf(R"("max_position_embeddings":99999999999)"),
              HasSubstr("max_position_embeddings"));
  EXPECT_THAT(ErrorOf(R"("tie_word_embeddings":"yes")"), HasSubstr("tie_word_embeddings"));
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"}) {
    std::string text = absl::StrCat("{", kBase, "}");
    const size_t at = text.find(absl::StrCat("\"", key, "\":"));
    text.insert(at + std::string(key).size() + 3, "-");
    const auto json = JsonValue::Parse(text, "config.json");
    EXPECT_THAT(std::string(ParseModelConfig(*json).status().message()), HasSubstr(key));
  }
}

TEST(ModelConfig, SurvivesARoundTrip) {
  ModelConfig before = testing::TinyLlamaConfig({.tied = false, .biases = true, .eos_ids = {2, 3}});
  before.rope = {.type = RopeType::kLlama3,
                 .theta = 5e5,
                 .factor = 32,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_max_position = 64};
  before.bos_id = 1;
  before.rms_norm_eps = 1e-5;
  const auto json = JsonValue::Parse(SerializeModelConfig(before, DType::kBF16), "config.json");
  ASSERT_TRUE(json.ok()) << json.status();
  const auto after = ParseModelConfig(*json);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->vocab_size, before.vocab_size);
  EXPECT_EQ(after->intermediate_size, before.intermediate_size);
  EXPECT_EQ(after->num_kv_heads, before.num_kv_heads);
  EXPECT_EQ(after->head_dim, before.head_dim);
  EXPECT_EQ(after->max_position, before.max_position);
  EXPECT_EQ(after->rms_norm_eps, before.rms_norm_eps);
  EXPECT_EQ(after->rope.type, before.rope.type);
  EXPECT_EQ(after->rope.theta, before.rope.theta);
  EXPECT_EQ(after->rope.factor, before.rope.factor);
  EXPECT_EQ(after->rope.original_max_position, before.rope.original_max_position);
  EXPECT_EQ(after->tie_embeddings, before.tie_embeddings);
  EXPECT_EQ(after->attention_bias, before.attention_bias);
  EXPECT_EQ(after->mlp_bias, before.mlp_bias);
  EXPECT_EQ(after->bos_id, before.bos_id);
  EXPECT_EQ(after->eos_ids, before.eos_ids);
  EXPECT_EQ(after->random_weights, before.random_weights);
}

}  // namespace
}  // namespace rankine
