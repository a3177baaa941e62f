// Budgets and how linears share them, from the options to the folder.
#include <filesystem>
#include <string>

#include "tests/tools/compress/factorize_testing.h"
#include "tools/compress/work_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Files;
using ::testing::HasSubstr;

class BudgetsTest : public FactorizeTest {};

TEST_F(BudgetsTest, AllocatesByLossWithinTheBudget) {
  FactorizeOptions o = Options("svd-llm");
  const auto uniform = Factorize(model_, temp_ / "uniform", o);
  o.allocation = "loss-greedy";
  const auto greedy = Factorize(model_, temp_ / "greedy", o);
  ASSERT_TRUE(uniform.ok() && greedy.ok()) << greedy.status();
  EXPECT_LE(greedy->parameters_kept, 0.6);
  EXPECT_GT(greedy->parameters_kept, 0.59);
  int differ = 0;
  for (size_t i = 0; i < greedy->layers.size(); ++i) {
    differ += greedy->layers[i].rank != uniform->layers[i].rank;
  }
  EXPECT_GT(differ, 0);
  // A run that is stopped goes on with the same ranks.
  const auto stop = [](const Progress& p) {
    return p.text.find("layer 2 of") == std::string::npos;
  };
  ASSERT_FALSE(Factorize(model_, temp_ / "resumed", o, stop).ok());
  ASSERT_TRUE(Factorize(model_, temp_ / "resumed", o).ok());
  EXPECT_EQ(Files(temp_ / "resumed"), Files(temp_ / "greedy"));
  o.allocation = "svd-llm-v2";
  const auto v2 = Factorize(model_, temp_ / "v2", o);
  ASSERT_TRUE(v2.ok()) << v2.status();
  EXPECT_LE(v2->parameters_kept, 0.6);
}

TEST_F(BudgetsTest, BudgetsOfBitsAndBytesAreKept) {
  FactorizeOptions o = Options("svd");
  o.bits = 9;
  const auto by_bits = Factorize(model_, temp_ / "bits", o);
  ASSERT_TRUE(by_bits.ok()) << by_bits.status();
  EXPECT_LE(by_bits->bits_per_weight, 9);
  EXPECT_GT(by_bits->bits_per_weight, 8);
  int64_t parameters = 0;
  for (const LayerReport& l : by_bits->layers) parameters += l.dense_parameters;
  o.bits = 0;
  o.bytes = parameters;  // 8 bits a weight
  o.allocation = "loss-greedy";
  const auto by_bytes = Factorize(model_, temp_ / "bytes", o);
  ASSERT_TRUE(by_bytes.ok()) << by_bytes.status();
  EXPECT_LE(by_bytes->bits_per_weight, 8);
  EXPECT_GT(by_bytes->bits_per_weight, 7.9);
}

TEST_F(BudgetsTest, RefusesBudgetsThatDoNotFit) {
  FactorizeOptions o = Options("svd");
  o.keep = 0.001;
  EXPECT_THAT(Error(o), AllOf(HasSubstr("below one slice"), HasSubstr("model.layers.0.")));
  fs::remove_all(WorkFolder::PathOf(temp_ / "error"));
  o = Options("svd");
  o.rank = 1000;
  EXPECT_THAT(Error(o), AllOf(HasSubstr("rank 1000"), HasSubstr("model.layers.0.")));
  fs::remove_all(WorkFolder::PathOf(temp_ / "error"));
  o.allocation = "loss-greedy";
  EXPECT_THAT(Error(o), HasSubstr("--rank"));
  o = Options("basel-ranking");
  o.allocation = "loss-greedy";
  EXPECT_THAT(Error(o), HasSubstr("basel-ranking"));
  o.allocation = "magic";
  EXPECT_THAT(Error(o), HasSubstr("magic"));
  o = Options("svd");
  o.bits = 8;
  o.rank = 2;
  EXPECT_THAT(Error(o), HasSubstr("one budget"));
  o = Options("svd");
  o.method_options = {{"alpha", "0.5"}};
  EXPECT_THAT(Error(o), HasSubstr("no option --alpha"));
}

}  // namespace
}  // namespace rankine
