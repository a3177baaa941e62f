// The GGUF reader on SmolLM2-135M-Instruct.Q4_1.gguf, against values that gguf-py decodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/dtype.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {
namespace {

class GgufRealModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("RANKINE_TEST_GGUF");
    ASSERT_NE(path, nullptr)
        << "set RANKINE_TEST_GGUF to the path of SmolLM2-135M-Instruct.Q4_1.gguf "
           "(tools/test.sh fetches it)";
    auto checkpoint = OpenGguf(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
  }

  std::vector<float> ReadF32(const std::string& name, int64_t begin, int64_t end) {
    const TensorInfo* tensor = checkpoint_->Find(name);
    EXPECT_NE(tensor, nullptr) << name;
    if (tensor == nullptr) return {};
    std::vector<float> out((end - begin) * tensor->shape.back());
    const absl::Status status = checkpoint_->ReadRows(*tensor, begin, end, DType::kF32, out.data());
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(GgufRealModel, Config) {
  const ModelConfig& config = checkpoint_->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.intermediate_size, 1536);
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.num_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.max_position, 8192);
  EXPECT_EQ(static_cast<float>(config.rms_norm_eps), 1e-5f);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.rope.theta, 100000.0);
  EXPECT_TRUE(config.rope.frequency_divisors.empty());
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_FALSE(config.mlp_bias);
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_EQ(config.eos_ids, std::vector<int32_t>{2});
}

TEST_F(GgufRealModel, Tensors) {
  EXPECT_EQ(checkpoint_->tensors().size(), 272u);
  EXPECT_EQ(checkpoint_->tensors().front().name, "model.embed_tokens.weight");
  const TensorInfo* down = checkpoint_->Find("model.layers.29.mlp.down_proj.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->stored_type, "Q4_1");
  EXPECT_EQ(down->natural_dtype, DType::kF32);
  EXPECT_EQ(down->shape, (std::vector<int64_t>{576, 1536}));
  EXPECT_EQ(down->stored_bytes, 552960);
  EXPECT_EQ(checkpoint_->Find("lm_head.weight"), nullptr);
  EXPECT_TRUE(checkpoint_->factored().empty());
  EXPECT_TRUE(checkpoint_->folder().empty());
}

TEST_F(GgufRealModel, Vocabulary) {
  const GgufVocabulary* vocabulary = checkpoint_->gguf_vocabulary();
  ASSERT_NE(vocabulary, nullptr);
  EXPECT_EQ(vocabulary->model, "gpt2");
  EXPECT_EQ(vocabulary->pre, "smollm");
  EXPECT_EQ(vocabulary->tokens.size(), 49152u);
  EXPECT_EQ(vocabulary->tokens[1], "<|im_start|>");
  EXPECT_EQ(vocabulary->token_types.size(), 49152u);
  EXPECT_EQ(vocabulary->token_types[1], 3);
  EXPECT_EQ(vocabulary->merges.size(), 48900u);
  EXPECT_TRUE(vocabulary->scores.empty());
  EXPECT_EQ(vocabulary->bos_id, 1);
  EXPECT_EQ(vocabulary->eos_id, 2);
  EXPECT_EQ(vocabulary->unknown_id, 0);
  EXPECT_EQ(vocabulary->padding_id, 2);
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_FALSE(vocabulary->add_space_prefix);
  EXPECT_EQ(vocabulary->chat_template.find("{% for message in messages %}"), 0u);
}

// See tests/testing/generators/smollm2_gguf_rows.py for the layout.
TEST_F(GgufRealModel, RowsAreBitEqualToGgufPy) {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/smollm2_gguf_rows.bin", std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  size_t at = 0;
  const auto read_u32 = [&] {
    uint32_t value = 0;
    std::memcpy(&value, data.data() + at, 4);
    at += 4;
    return value;
  };
  int num_rows = 0;
  while (at < data.size()) {
    const uint32_t name_size = read_u32();
    const std::string name = data.substr(at, name_size);
    at += name_size;
    const uint32_t row = read_u32();
    const uint32_t cols = read_u32();
    ASSERT_LE(at + 4 * size_t{cols}, data.size());
    const std::vector<float> values = ReadF32(name, row, row + 1);
    ASSERT_EQ(values.size(), cols) << name;
    EXPECT_EQ(std::memcmp(values.data(), data.data() + at, 4 * size_t{cols}), 0)
        << name << " row " << row;
    at += 4 * size_t{cols};
    ++num_rows;
  }
  EXPECT_EQ(num_rows, 23);
}

TEST_F(GgufRealModel, ManyRowsAtOnceEqualRowsAlone) {
  for (const char* name :
       {"model.layers.0.self_attn.q_proj.weight", "model.layers.3.self_attn.k_proj.weight",
        "model.layers.3.mlp.gate_proj.weight"}) {
    const int64_t cols = 576;
    const std::vector<float> all = ReadF32(name, 17, 161);
    for (int64_t row = 17; row < 161; ++row) {
      const std::vector<float> one = ReadF32(name, row, row + 1);
      ASSERT_EQ(std::memcmp(one.data(), all.data() + (row - 17) * cols, 4 * cols), 0)
          << name << " row " << row;
    }
  }
}

// More values than the reader decodes at a time.
TEST_F(GgufRealModel, LongRangesEqualShortOnes) {
  const std::string name = "model.embed_tokens.weight";
  const std::vector<float> all = ReadF32(name, 3, 1503);
  for (int64_t row = 3; row < 1503; row += 100) {
    const std::vector<float> part = ReadF32(name, row, row + 100);
    ASSERT_EQ(std::memcmp(part.data(), all.data() + (row - 3) * 576, part.size() * 4), 0) << row;
  }
}

TEST_F(GgufRealModel, ThreadsReadTheSameValues) {
  const std::string name = "model.layers.11.self_attn.q_proj.weight";
  const std::vector<float> expected = ReadF32(name, 0, 576);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] { result = ReadF32(name, 0, 576); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) EXPECT_EQ(result, expected);
}

// All 211 matrices, in uneven runs of rows: those of q and k are permuted within heads.
TEST_F(GgufRealModel, BlockRowsAreTheSameNumbers) {
  int num_matrices = 0;
  for (const TensorInfo& tensor : checkpoint_->tensors()) {
    if (!tensor.natural_encoding) continue;
    ++num_matrices;
    const bool is_q4 = tensor.stored_type == "Q4_1";
    EXPECT_EQ(*tensor.natural_encoding,
              (Encoding{.kind = EncodingKind::kAffine,
                        .bits = static_cast<uint8_t>(is_q4 ? 4 : 8),
                        .group = 32,
                        .offset = is_q4 ? OffsetKind::kPerGroup : OffsetKind::kNone}))
        << tensor.stored_type;
    const FactoredMatrix matrix = BlocksMatrix("linear", tensor);
    const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
    std::vector<float> decoded(cols);
    BlockRowsBuffer buffer;
    for (int64_t begin = 0; begin < rows; begin += 1111) {
      const int64_t end = std::min(rows, begin + 1111);
      const std::vector<float> expected = ReadF32(tensor.name, begin, end);
      const absl::Status status =
          checkpoint_->ReadBlockRows(matrix.terms[0].cores[0], begin, end, cols, &buffer);
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(buffer.rows, end - begin);
      for (int64_t row = begin; row < end; ++row) {
        DecodeBlockRow(buffer.view(), row - begin, decoded.data());
        ASSERT_EQ(std::memcmp(decoded.data(), expected.data() + (row - begin) * cols, 4 * cols), 0)
            << tensor.name << " row " << row;
      }
    }
  }
  EXPECT_EQ(num_matrices, 211);
}

TEST_F(GgufRealModel, BlockRowsFromTheMiddleOfAHead) {
  const TensorInfo* tensor = checkpoint_->Find("model.layers.2.self_attn.k_proj.weight");
  ASSERT_NE(tensor, nullptr);
  const FactoredMatrix matrix = BlocksMatrix("k", *tensor);
  const std::vector<float> expected = ReadF32(tensor->name, 50, 150);
  BlockRowsBuffer buffer;
  ASSERT_TRUE(checkpoint_->ReadBlockRows(matrix.terms[0].cores[0], 50, 150, 576, &buffer).ok());
  std::vector<float> decoded(576);
  for (int64_t row = 0; row < 100; ++row) {
    DecodeBlockRow(buffer.view(), row, decoded.data());
    ASSERT_EQ(std::memcmp(decoded.data(), expected.data() + row * 576, 4 * 576), 0) << row;
  }
}

TEST_F(GgufRealModel, BlockRowsOutsideTheContractAreErrors) {
  const TensorInfo* tensor = checkpoint_->Find("model.layers.2.self_attn.k_proj.weight");
  const FactoredMatrix matrix = BlocksMatrix("k", *tensor);
  Core core = matrix.terms[0].cores[0];
  BlockRowsBuffer buffer;
  EXPECT_EQ(checkpoint_->ReadBlockRows(core, 0, 193, 576, &buffer).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint_->ReadBlockRows(core, 0, 1, 575, &buffer).code(),
            absl::StatusCode::kInvalidArgument);
  core.encoding.bits = 5;
  EXPECT_EQ(checkpoint_->ReadBlockRows(core, 0, 1, 576, &buffer).code(),
            absl::StatusCode::kInvalidArgument);
  core.tensors[0].tensor = "nothing";
  EXPECT_EQ(checkpoint_->ReadBlockRows(core, 0, 1, 576, &buffer).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rankine
