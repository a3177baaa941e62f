#include "tools/compress/allocation/allocation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::WriteWholeFile;

AllocationLinear Linear(const std::string& name, int64_t m, int64_t n, double scale, double decay) {
  AllocationLinear l{.name = name, .out_features = m, .in_features = n, .dense_bits = 16 * m * n};
  for (int64_t k = 0; k < std::min(m, n); ++k) l.losses.push_back(scale * std::pow(decay, k));
  return l;
}

// Curves of very different height and slope.
AllocationRequest Request(double keep) {
  AllocationRequest r{.encoding = Encoding::Float(DType::kBF16), .tokens = 1000};
  std::mt19937_64 random(3);
  for (int layer = 0; layer < 6; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const double scale = std::exp(std::normal_distribution<double>(0, 2)(random));
    r.linears.push_back(Linear(prefix + "self_attn.q_proj", 48, 48, scale, 0.97));
    r.linears.push_back(Linear(prefix + "mlp.up_proj", 96, 48, scale, 0.9 + 0.015 * layer));
  }
  for (const AllocationLinear& l : r.linears) r.parameters += keep * l.parameters();
  return r;
}

struct Outcome {
  double cost = 0, loss = 0;
};

Outcome OutcomeOf(const AllocationRequest& r, const Allocation& allocation) {
  Outcome o;
  for (const AllocationLinear& l : r.linears) {
    const auto found = allocation.find(l.name);
    if (found == allocation.end()) {
      o.cost += DenseCost(r, l);
      continue;
    }
    const int64_t rank = *RankWithin(found->second, l.out_features, l.in_features, r.encoding);
    o.cost += CostAtRank(r, l, rank);
    o.loss += std::accumulate(l.losses.begin() + rank, l.losses.end(), 0.0);
  }
  return o;
}

absl::StatusOr<Allocation> Allocate(const char* policy, const AllocationRequest& request) {
  return (*FindAllocationPolicy(policy))->allocate(request);
}

TEST(AllocationTest, NeverExceedsTheBudgetAndUsesIt) {
  for (const char* policy : {"uniform", "loss-greedy", "svd-llm-v2"}) {
    for (const double keep : {0.1, 0.35, 0.6, 0.9, 0.99}) {
      for (const bool by_bits : {false, true}) {
        for (const int64_t multiple : {1, 8}) {
          SCOPED_TRACE(std::string(policy) + " " + std::to_string(keep));
          AllocationRequest r = Request(keep);
          r.rank_multiple = multiple;
          if (by_bits) r.bits = 16 * std::exchange(r.parameters, 0);
          const auto allocation = Allocate(policy, r);
          ASSERT_TRUE(allocation.ok()) << allocation.status();
          const Outcome o = OutcomeOf(r, *allocation);
          EXPECT_LE(o.cost, TotalBudget(r));
          // What is left is less than a step of every linear.
          EXPECT_GT(o.cost, TotalBudget(r) - 12 * CostAtRank(r, r.linears[1], 2 * multiple) -
                                12 * 50 * 96 * (by_bits ? 1 : 0));
        }
      }
    }
  }
}

TEST(AllocationTest, GreedyIsNotWorseThanUniformOrV2) {
  for (const double keep : {0.1, 0.35, 0.6, 0.9}) {
    const AllocationRequest r = Request(keep);
    const double greedy = OutcomeOf(r, *Allocate("loss-greedy", r)).loss;
    // Up to one rank step.
    const double step = 1 + 1e-9;
    EXPECT_LE(greedy, OutcomeOf(r, *Allocate("uniform", r)).loss * step) << keep;
    EXPECT_LE(greedy, OutcomeOf(r, *Allocate("svd-llm-v2", r)).loss * step) << keep;
  }
}

// Against every combination of ranks of three small linears.
TEST(AllocationTest, GreedyIsWithinOneStepOfTheBest) {
  AllocationRequest r{.encoding = Encoding::Float(DType::kBF16)};
  r.linears = {Linear("model.layers.0.a", 6, 6, 5, 0.5), Linear("model.layers.1.a", 6, 6, 1, 0.8),
               Linear("model.layers.2.a", 8, 6, 3, 0.9)};
  for (r.parameters = 40; r.parameters < 110; r.parameters += 7) {
    std::vector<std::pair<double, double>> curves[3];  // cost, loss
    for (int i = 0; i < 3; ++i) {
      for (const int64_t k : CandidateRanks(r, r.linears[i])) {
        curves[i].push_back(
            {CostAtRank(r, r.linears[i], k),
             std::accumulate(r.linears[i].losses.begin() + k, r.linears[i].losses.end(), 0.0)});
      }
      curves[i].push_back({DenseCost(r, r.linears[i]), 0});
    }
    double best = 1e9, best_with_less = 1e9;
    for (const auto& a : curves[0]) {
      for (const auto& b : curves[1]) {
        for (const auto& c : curves[2]) {
          const double cost = a.first + b.first + c.first, loss = a.second + b.second + c.second;
          if (cost <= r.parameters) best = std::min(best, loss);
          if (cost <= r.parameters - 14) best_with_less = std::min(best_with_less, loss);
        }
      }
    }
    const Outcome o = OutcomeOf(r, *Allocate("loss-greedy", r));
    EXPECT_GE(o.loss, best - 1e-12);
    EXPECT_LE(o.loss, best_with_less + 1e-12) << "a budget of one step less";
  }
}

TEST(AllocationTest, V2KeepsMoreWhereMoreIsLost) {
  AllocationRequest r{.encoding = Encoding::Float(DType::kBF16), .tokens = 1000};
  r.linears = {Linear("model.layers.0.mlp.up_proj", 64, 64, 1, 0.98),
               Linear("model.layers.1.mlp.up_proj", 64, 64, 1000, 0.98)};
  r.parameters = 0.5 * 2 * 64 * 64;
  const Allocation a = *Allocate("svd-llm-v2", r);
  EXPECT_GT(a.at("model.layers.1.mlp.up_proj").rank, a.at("model.layers.0.mlp.up_proj").rank);
}

TEST(AllocationTest, BudgetsBelowTheLeastAreErrors) {
  AllocationRequest r = Request(0.001);
  for (const char* policy : {"loss-greedy", "svd-llm-v2"}) {
    EXPECT_THAT(std::string(Allocate(policy, r).status().message()), HasSubstr("below")) << policy;
  }
  EXPECT_THAT(std::string(FindAllocationPolicy("magic").status().message()),
              AllOf(HasSubstr("magic"), HasSubstr("loss-greedy")));
}

TEST(AllocationTest, ListTakesTheFirstRuleThatFits) {
  const TempFolder temp;
  AllocationRequest r = Request(0.5);
  r.list_path = temp / "list";
  WriteWholeFile(
      r.list_path,
      "# late layers\n\nlayers\\.[45]\\.mlp  keep 0.25\nq_proj$ rank 7\nlayers\\.0 dense\n");
  const auto a = Allocate("list", r);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->size(), 2u + 6u);
  EXPECT_EQ(a->at("model.layers.4.mlp.up_proj").parameters, 0.25 * 96 * 48);
  EXPECT_EQ(a->at("model.layers.0.self_attn.q_proj").rank, 7);
  EXPECT_EQ(a->count("model.layers.1.mlp.up_proj"), 0u);
  const std::pair<const char*, const char*> bad[] = {{"( keep 0.5", "line 1"},
                                                     {"q keep 1.5", "keep SHARE"},
                                                     {"q rank 0", "rank R"},
                                                     {"q rank 3 4", "line 1"},
                                                     {"\nnothing rank 3", "line 2"}};
  for (const auto& [text, expected] : bad) {
    WriteWholeFile(r.list_path, text);
    EXPECT_THAT(std::string(Allocate("list", r).status().message()), HasSubstr(expected)) << text;
  }
  r.list_path = temp / "none";
  EXPECT_THAT(std::string(Allocate("list", r).status().message()), HasSubstr("none"));
  r.list_path = "";
  EXPECT_THAT(std::string(Allocate("list", r).status().message()), HasSubstr("--allocation-list"));
}

}  // namespace
}  // namespace rankine
