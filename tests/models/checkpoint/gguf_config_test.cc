// Config and vocabulary from GGUF metadata, and what is refused in them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "tests/testing/gguf_writer.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::TinyLlamaGguf;

using Change = std::function<void(GgufWriter&)>;

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenChanged(const Change& change) {
  GgufWriter writer = TinyLlamaGguf();
  change(writer);
  const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  return OpenGguf(writer.Write("gguf_config_" + test));
}

ModelConfig ConfigOf(const Change& change) {
  const auto checkpoint = OpenChanged(change);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? (*checkpoint)->config() : ModelConfig{};
}

GgufVocabulary VocabularyOf(const Change& change) {
  const auto checkpoint = OpenChanged(change);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok() || (*checkpoint)->gguf_vocabulary() == nullptr) return {};
  return *(*checkpoint)->gguf_vocabulary();
}

struct Refusal {
  absl::StatusCode code;
  std::string message;
  Change change;
};

void ExpectRefused(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    const auto checkpoint = OpenChanged(refusal.change);
    EXPECT_EQ(checkpoint.status().code(), refusal.code) << refusal.message;
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(refusal.message));
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("gguf_config_"));
  }
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;

TEST(GgufConfig, Defaults) {
  const ModelConfig config = ConfigOf([](GgufWriter&) {});
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.vocab_size, 6);
  EXPECT_EQ(config.hidden_size, 32);
  EXPECT_EQ(config.intermediate_size, 64);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.max_position, 128);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_THAT(config.eos_ids, ElementsAre(2));
}

TEST(GgufConfig, PerLayerHeadCountsMustAgree) {
  EXPECT_EQ(ConfigOf([](GgufWriter& w) {
              w.SetI32s("llama.attention.head_count_kv", {2, 2});
            }).num_kv_heads,
            2);
  ExpectRefused({
      {kUnsupported, "key 'llama.attention.head_count_kv' differs between layers",
       [](GgufWriter& w) {
         w.SetI32s("llama.attention.head_count_kv", {2, 4});
       }},
      {kInvalid, "key 'llama.attention.head_count_kv' is an empty array",
       [](GgufWriter& w) { w.SetI32s("llama.attention.head_count_kv", {}); }},
  });
}

TEST(GgufConfig, RopeScaling) {
  ModelConfig config = ConfigOf([](GgufWriter& w) {
    w.SetF32("llama.rope.freq_base", 500000.0f);
    w.SetString("llama.rope.scaling.type", "linear");
    w.SetF32("llama.rope.scaling.factor", 4.0f);
  });
  EXPECT_EQ(config.rope.theta, 500000.0);
  EXPECT_EQ(config.rope.type, RopeType::kLinear);
  EXPECT_EQ(config.rope.factor, 4.0);
  config = ConfigOf([](GgufWriter& w) { w.SetF32("llama.rope.scale_linear", 2.0f); });
  EXPECT_EQ(config.rope.type, RopeType::kLinear);
  EXPECT_EQ(config.rope.factor, 2.0);
  config = ConfigOf([](GgufWriter& w) {
    w.SetString("llama.rope.scaling.type", "none");
    w.SetF32("llama.rope.scaling.factor", 4.0f);
  });
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  ExpectRefused({
      {kUnsupported, "key 'llama.rope.scaling.type' is 'yarn'",
       [](GgufWriter& w) { w.SetString("llama.rope.scaling.type", "yarn"); }},
      {kInvalid, "key 'llama.rope.scaling.factor' is missing",
       [](GgufWriter& w) { w.SetString("llama.rope.scaling.type", "linear"); }},
      {kInvalid, "key 'llama.rope.scaling.factor' is nan",
       [](GgufWriter& w) { w.SetF32("llama.rope.scaling.factor", NAN); }},
      {kInvalid, "key 'llama.rope.freq_base' is 0",
       [](GgufWriter& w) { w.SetF32("llama.rope.freq_base", 0.0f); }},
  });
}

TEST(GgufConfig, RopeFrequenciesGoToTheConfig) {
  const auto checkpoint = OpenChanged([](GgufWriter& w) {
    w.AddF32("rope_freqs.weight", {4}, {1, 2, 4, 8});
  });
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->config().rope.frequency_divisors, ElementsAre(1, 2, 4, 8));
  // A tensor as well, so that converting carries it over.
  EXPECT_EQ((*checkpoint)->tensors().size(), 22u);
  EXPECT_NE((*checkpoint)->Find("rope_freqs.weight"), nullptr);
  ExpectRefused({
      {kInvalid, "tensor 'rope_freqs.weight': has shape [3], expected [4]",
       [](GgufWriter& w) {
         w.AddF32("rope_freqs.weight", {3}, {1, 2, 4});
       }},
      {kInvalid, "tensor 'rope_freqs.weight': has a divisor that is not positive",
       [](GgufWriter& w) {
         w.AddF32("rope_freqs.weight", {4}, {1, 2, 0, 8});
       }},
      {kInvalid, "tensor 'rope_freqs.weight', row 0, column 2: the value nan is not finite",
       [](GgufWriter& w) {
         w.AddF32("rope_freqs.weight", {4}, {1, 2, NAN, 8});
       }},
  });
}

TEST(GgufConfig, HeadDimensions) {
  ExpectRefused({
      {kInvalid, "head_dim: 258 is not between 1 and 256",
       [](GgufWriter& w) {
         w.SetU32("llama.attention.key_length", 258);
         w.SetU32("llama.attention.value_length", 258);
         w.SetU32("llama.rope.dimension_count", 258);
       }},
      {kUnsupported, "key 'llama.rope.dimension_count' is 4",
       [](GgufWriter& w) { w.SetU32("llama.rope.dimension_count", 4); }},
      {kUnsupported, "key 'llama.attention.value_length' is 16",
       [](GgufWriter& w) { w.SetU32("llama.attention.value_length", 16); }},
      {kInvalid, "key 'llama.attention.head_count' is 4, which is no multiple of the 3 KV heads",
       [](GgufWriter& w) { w.SetU32("llama.attention.head_count_kv", 3); }},
      {kInvalid, "key 'llama.embedding_length' is 32, which is no multiple of the 5 heads",
       [](GgufWriter& w) {
         w.SetU32("llama.attention.head_count", 5);
         w.SetU32("llama.attention.head_count_kv", 5);
       }},
      {kInvalid,
       "tensor 'blk.0.attn_q.weight': has shape [32, 32], but the metadata demand [64, 32]",
       [](GgufWriter& w) {
         w.SetU32("llama.attention.key_length", 16);
         w.SetU32("llama.attention.value_length", 16);
       }},
  });
}

TEST(GgufConfig, WhatIsNotThisLlamaIsRefusedByName) {
  ExpectRefused({
      {kUnsupported, "architecture 'qwen2' is not supported",
       [](GgufWriter& w) { w.SetString("general.architecture", "qwen2"); }},
      {kInvalid, "key 'general.architecture' is missing",
       [](GgufWriter& w) { w.Remove("general.architecture"); }},
      {kInvalid, "key 'general.architecture' is not a string",
       [](GgufWriter& w) { w.SetU32("general.architecture", 1); }},
      {kUnsupported, "key 'llama.expert_count' is 8",
       [](GgufWriter& w) { w.SetU32("llama.expert_count", 8); }},
      {kUnsupported, "key 'llama.attention.causal'",
       [](GgufWriter& w) { w.SetBool("llama.attention.causal", false); }},
      {kUnsupported, "key 'llama.attention.sliding_window' is 64",
       [](GgufWriter& w) { w.SetU32("llama.attention.sliding_window", 64); }},
      {kInvalid, "tensor 'blk.0.ffn_gate_inp.weight'",
       [](GgufWriter& w) { w.AddF32("blk.0.ffn_gate_inp.weight", {1}, {0}); }},
      {kInvalid, "tensor 'blk.0.attn_norm.bias'",
       [](GgufWriter& w) { w.AddF32("blk.0.attn_norm.bias", {32}, std::vector<float>(32)); }},
      {kInvalid, "tensor 'blk.00.attn_q.weight'",
       [](GgufWriter& w) { w.Find("blk.0.attn_q.weight").name = "blk.00.attn_q.weight"; }},
      {kInvalid, "tensor 'blk.2.attn_norm.weight': belongs to no layer",
       [](GgufWriter& w) { w.AddF32("blk.2.attn_norm.weight", {32}, std::vector<float>(32)); }},
  });
}

TEST(GgufConfig, MissingKeysTensorsAndWrongShapes) {
  std::vector<Refusal> refusals = {
      {kInvalid, "tensor 'blk.1.ffn_up.weight': is missing",
       [](GgufWriter& w) { w.RemoveTensor("blk.1.ffn_up.weight"); }},
      {kInvalid, "tensor 'token_embd.weight': is missing",
       [](GgufWriter& w) { w.RemoveTensor("token_embd.weight"); }},
      {kInvalid,
       "tensor 'blk.0.ffn_down.weight': has shape [64, 32], but the metadata demand [32, 64]",
       [](GgufWriter& w) {
         w.Find("blk.0.ffn_down.weight").extents = {32, 64};
       }},
      {kInvalid, "tensor 'blk.0.attn_norm.weight': has shape [1, 32]",
       [](GgufWriter& w) {
         w.Find("blk.0.attn_norm.weight").extents = {32, 1};
       }},
      {kInvalid, "key 'llama.block_count' is 1000, but there are only 21 tensors",
       [](GgufWriter& w) { w.SetU32("llama.block_count", 1000); }},
      {kInvalid, "key 'llama.block_count' is 0",
       [](GgufWriter& w) { w.SetU32("llama.block_count", 0); }},
      {kInvalid, "key 'llama.embedding_length' is 4294967295",
       [](GgufWriter& w) { w.SetU32("llama.embedding_length", 0xFFFFFFFFu); }},
      {kInvalid, "key 'llama.embedding_length' is not made of integers",
       [](GgufWriter& w) { w.SetF32("llama.embedding_length", 32.0f); }},
  };
  for (const char* key : {"llama.context_length", "llama.embedding_length", "llama.block_count",
                          "llama.feed_forward_length", "llama.attention.head_count",
                          "llama.attention.layer_norm_rms_epsilon"}) {
    refusals.push_back({kInvalid, std::string("key '") + key + "' is missing",
                        [key](GgufWriter& w) { w.Remove(key); }});
  }
  ExpectRefused(refusals);
}

TEST(GgufVocabularyReader, Fields) {
  const GgufVocabulary vocabulary = VocabularyOf([](GgufWriter& w) {
    w.SetString("tokenizer.ggml.model", "llama");
    w.SetF32s("tokenizer.ggml.scores", {0, 0, 0, -1, -2, -3});
    w.SetU32("tokenizer.ggml.unknown_token_id", 0);
    w.SetU32("tokenizer.ggml.padding_token_id", 0xFFFFFFFFu);
    w.SetBool("tokenizer.ggml.add_eos_token", true);
    w.SetString("tokenizer.chat_template", "{{ x }}");
  });
  EXPECT_EQ(vocabulary.model, "llama");
  EXPECT_THAT(vocabulary.tokens, ElementsAre("<unk>", "<s>", "</s>", "a", "b", "ab"));
  EXPECT_THAT(vocabulary.scores, ElementsAre(0, 0, 0, -1, -2, -3));
  EXPECT_THAT(vocabulary.token_types, ElementsAre(2, 3, 3, 1, 1, 1));
  EXPECT_THAT(vocabulary.merges, ElementsAre("a b"));
  EXPECT_EQ(vocabulary.unknown_id, 0);
  EXPECT_EQ(vocabulary.padding_id, -1);
  EXPECT_TRUE(vocabulary.add_bos);  // sentencepiece: unless the file says otherwise
  EXPECT_TRUE(vocabulary.add_eos);
  EXPECT_TRUE(vocabulary.add_space_prefix);
  EXPECT_EQ(vocabulary.chat_template, "{{ x }}");
}

TEST(GgufVocabularyReader, DefaultsOfBytePairVocabularies) {
  GgufVocabulary vocabulary = VocabularyOf([](GgufWriter&) {});
  EXPECT_FALSE(vocabulary.add_bos);
  EXPECT_FALSE(vocabulary.add_space_prefix);
  vocabulary = VocabularyOf([](GgufWriter& w) { w.SetString("tokenizer.ggml.pre", "llama-bpe"); });
  EXPECT_TRUE(vocabulary.add_bos);
  vocabulary = VocabularyOf([](GgufWriter& w) { w.Remove("tokenizer.ggml.token_type"); });
  EXPECT_THAT(vocabulary.token_types, ElementsAre(1, 1, 1, 1, 1, 1));
}

TEST(GgufVocabularyReader, EndOfTurnEndsASequenceToo) {
  const Change set_turn = [](GgufWriter& w) { w.SetU32("tokenizer.ggml.eot_token_id", 5); };
  EXPECT_THAT(ConfigOf(set_turn).eos_ids, ElementsAre(2, 5));
  EXPECT_THAT(ConfigOf([](GgufWriter& w) { w.SetU32("tokenizer.ggml.eot_token_id", 2); }).eos_ids,
              ElementsAre(2));
}

TEST(GgufVocabularyReader, AFileWithoutATokenizerNeedsAVocabularySize) {
  const auto checkpoint = OpenChanged([](GgufWriter& w) {
    w.Remove("tokenizer.ggml.model");
    w.SetU32("llama.vocab_size", 6);
  });
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->gguf_vocabulary(), nullptr);
  EXPECT_EQ((*checkpoint)->config().vocab_size, 6);
  EXPECT_EQ((*checkpoint)->config().bos_id, -1);
  ExpectRefused({{kInvalid, "key 'llama.vocab_size' is missing",
                  [](GgufWriter& w) { w.Remove("tokenizer.ggml.model"); }}});
}

TEST(GgufVocabularyReader, InconsistentFieldsAreRefused) {
  ExpectRefused({
      {kInvalid, "key 'tokenizer.ggml.tokens' is missing",
       [](GgufWriter& w) { w.Remove("tokenizer.ggml.tokens"); }},
      {kInvalid, "key 'tokenizer.ggml.tokens' is not an array of strings",
       [](GgufWriter& w) { w.SetI32s("tokenizer.ggml.tokens", {1}); }},
      {kInvalid, "key 'tokenizer.ggml.scores' has 2 elements for 6 tokens",
       [](GgufWriter& w) {
         w.SetF32s("tokenizer.ggml.scores", {1, 2});
       }},
      {kInvalid, "key 'tokenizer.ggml.scores' has a score that is not finite",
       [](GgufWriter& w) {
         w.SetF32s("tokenizer.ggml.scores", {1, 2, 3, 4, 5, NAN});
       }},
      {kInvalid, "key 'tokenizer.ggml.token_type' has the unknown type 9",
       [](GgufWriter& w) {
         w.SetI32s("tokenizer.ggml.token_type", {9, 1, 1, 1, 1, 1});
       }},
      {kInvalid, "key 'tokenizer.ggml.bos_token_id' is 6, but there are 6 tokens",
       [](GgufWriter& w) { w.SetU32("tokenizer.ggml.bos_token_id", 6); }},
      {kInvalid, "key 'tokenizer.ggml.eot_token_id' is 6",
       [](GgufWriter& w) { w.SetU32("tokenizer.ggml.eot_token_id", 6); }},
      {kInvalid, "tensor 'token_embd.weight': has shape [6, 32], but the metadata demand [5, 32]",
       [](GgufWriter& w) {
         w.SetStrings("tokenizer.ggml.tokens", {"1", "2", "3", "4", "5"});
         w.Remove("tokenizer.ggml.token_type");
       }},
  });
}

}  // namespace
}  // namespace rankine
