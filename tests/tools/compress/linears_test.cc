#include "tools/compress/linears.h"

#include <gtest/gtest.h>

namespace rankine {
namespace {

TEST(LayerOfTest, IsTheFirstNumberWithPartsAroundIt) {
  EXPECT_EQ(LayerOf("model.layers.3.mlp.up_proj"), 3);
  EXPECT_EQ(LayerOf("encoder.layer.11.output.dense"), 11);
  EXPECT_EQ(LayerOf("model.layers.2.experts.7.up_proj"), 2);
  EXPECT_FALSE(LayerOf("lm_head"));
  EXPECT_FALSE(LayerOf("model.layers.3"));
  EXPECT_FALSE(LayerOf("model.layers.1234567.mlp"));
}

TEST(InLayerTest, ChangesThatNumberAlone) {
  EXPECT_EQ(InLayer("model.layers.3.mlp.up_proj", 0), "model.layers.0.mlp.up_proj");
  EXPECT_EQ(InLayer("encoder.layer.0.output.dense", 11), "encoder.layer.11.output.dense");
  EXPECT_EQ(InLayer("model.layers.29.experts.7.up_proj", 1), "model.layers.1.experts.7.up_proj");
  EXPECT_EQ(InLayer("lm_head", 4), "lm_head");
}

}  // namespace
}  // namespace rankine
