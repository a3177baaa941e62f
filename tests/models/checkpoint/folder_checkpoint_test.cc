#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "models/llama_layout.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;
using testing::TinyLlamaOptions;
using testing::WriteTinyLlama;

TEST(FolderCheckpoint, OpensADenseModel) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {.tied = false, .biases = true});
  auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config().num_layers, 2);
  EXPECT_EQ((*checkpoint)->config().eos_ids, std::vector<int32_t>({2}));
  EXPECT_TRUE((*checkpoint)->config().random_weights);
  const TensorInfo* q = (*checkpoint)->Find("model.layers.1.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->shape, std::vector<int64_t>({32, 32}));
  EXPECT_NE((*checkpoint)->Find("lm_head.weight"), nullptr);
  EXPECT_EQ((*checkpoint)->Find("nothing"), nullptr);
  EXPECT_TRUE((*checkpoint)->factored().empty());
  EXPECT_EQ((*checkpoint)->gguf_vocabulary(), nullptr);
}

TEST(FolderCheckpoint, ReadsRowsInEachType) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {});
  auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const TensorInfo* e = (*checkpoint)->Find(kEmbeddingTensor);
  ASSERT_NE(e, nullptr);
  std::vector<float> all(96 * 32);
  ASSERT_TRUE((*checkpoint)->ReadRows(*e, 0, 96, DType::kF32, all.data()).ok());
  std::vector<BF16> some(5 * 32);
  ASSERT_TRUE((*checkpoint)->ReadRows(*e, 7, 12, DType::kBF16, some.data()).ok());
  for (size_t k = 0; k < some.size(); ++k) {
    EXPECT_EQ(some[k].bits, ToBF16(all[7 * 32 + k]).bits);
  }
  EXPECT_EQ((*checkpoint)->ReadRows(*e, 90, 97, DType::kF32, all.data()).code(),
            absl::StatusCode::kOutOfRange);
}

TEST(FolderCheckpoint, OpensShards) {
  TempFolder temp;
  WriteTinyLlama(temp / "one", {});
  WriteTinyLlama(temp / "many", {.max_shard_bytes = 20000});
  auto one = OpenFolder(temp / "one");
  auto many = OpenFolder(temp / "many");
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(many.ok()) << many.status();
  EXPECT_EQ((*one)->tensors().size(), (*many)->tensors().size());
  for (const TensorInfo& tensor : (*one)->tensors()) {
    const TensorInfo* other = (*many)->Find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    const int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
    std::vector<float> a(size_t(tensor.stored_bytes) / 4), b(a.size());
    ASSERT_TRUE((*one)->ReadRows(tensor, 0, rows, DType::kF32, a.data()).ok());
    ASSERT_TRUE((*many)->ReadRows(*other, 0, rows, DType::kF32, b.data()).ok());
    EXPECT_EQ(a, b) << tensor.name;
  }
}

}  // namespace
}  // namespace rankine
