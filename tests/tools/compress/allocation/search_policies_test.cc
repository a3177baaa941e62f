// Policies that look at the model's loss, on losses that are known.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/compress/allocation/allocation.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

// A model of `layers` layers with two matrices; what a linear loses grows with what is cut off,
// times its weight.
class FakeModel {
 public:
  FakeModel(int layers, double keep) {
    request.encoding = Encoding::Float(DType::kBF16);
    for (int i = 0; i < layers; ++i) {
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      Add(prefix + "self_attn.q_proj", 48, 48);
      Add(prefix + "mlp.up_proj", 96, 48);
    }
    for (const AllocationLinear& l : request.linears) {
      request.parameters += keep * static_cast<double>(l.parameters());
    }
    request.loss_of = [this](const Ranks& ranks) -> absl::StatusOr<MeasuredLoss> {
      ++asked;
      const double increase = Increase(ranks);
      return MeasuredLoss{.loss = 2 + increase, .increase = increase};
    };
  }

  void Add(const std::string& name, int64_t m, int64_t n) {
    request.linears.push_back(
        {.name = name, .out_features = m, .in_features = n, .dense_bits = 16 * m * n});
    weights[name] = 1;
  }

  double Increase(const Ranks& ranks) const {
    double sum = 0;
    for (const AllocationLinear& l : request.linears) {
      const auto rank = ranks.find(l.name);
      if (rank == ranks.end()) continue;
      const double cut = 1 - static_cast<double>(rank->second * (l.out_features + l.in_features)) /
                                 static_cast<double>(l.parameters());
      sum += weights.at(l.name) * (0.02 + cut * cut);
    }
    return sum;
  }

  Ranks RanksOf(const Allocation& allocation) const {
    Ranks ranks;
    for (const AllocationLinear& l : request.linears) {
      const auto found = allocation.find(l.name);
      if (found == allocation.end()) continue;
      ranks[l.name] = *RankWithin(found->second, l.out_features, l.in_features, request.encoding);
    }
    return ranks;
  }

  double CostOf(const Ranks& ranks) const {
    double cost = 0;
    for (const AllocationLinear& l : request.linears) {
      const auto rank = ranks.find(l.name);
      cost += rank == ranks.end() ? DenseCost(request, l) : CostAtRank(request, l, rank->second);
    }
    return cost;
  }

  absl::StatusOr<Allocation> Allocate(const char* policy) const {
    return (*FindAllocationPolicy(policy))->allocate(request);
  }

  AllocationRequest request;
  std::map<std::string, double> weights;
  int asked = 0;
};

TEST(SearchPoliciesTest, NeverExceedTheBudgetAndUseIt) {
  for (const char* policy : {"sensitivity", "bayes"}) {
    for (const double keep : {0.35, 0.6, 0.8, 0.95}) {
      for (const bool by_bits : {false, true}) {
        for (const int64_t multiple : {1, 8}) {
          for (const int64_t extra : {0, 48}) {
            SCOPED_TRACE(std::string(policy) + " " + std::to_string(keep));
            FakeModel model(5, keep);
            model.weights["model.layers.2.mlp.up_proj"] = 40;
            model.weights["model.layers.3.mlp.up_proj"] = 0;
            model.request.rank_multiple = multiple;
            model.request.search.evaluations = 6;
            for (AllocationLinear& l : model.request.linears) l.extra = extra;
            if (by_bits) model.request.bits = 16 * std::exchange(model.request.parameters, 0);
            const auto allocation = model.Allocate(policy);
            ASSERT_TRUE(allocation.ok()) << allocation.status();
            const double cost = model.CostOf(model.RanksOf(*allocation));
            EXPECT_LE(cost, TotalBudget(model.request));
            // What is left would not pay for a step of every linear, or for one more dense linear.
            const AllocationLinear& up = model.request.linears[1];
            const double step = 10 * (CostAtRank(model.request, up, 2 * multiple) -
                                      CostAtRank(model.request, up, multiple));
            EXPECT_GT(cost, TotalBudget(model.request) - step - DenseCost(model.request, up));
          }
        }
      }
    }
  }
}

// One matrix matters: it keeps all, or nearly, and the rest pays.
TEST(SearchPoliciesTest, BeatUniformWhereOneLinearMatters) {
  const std::string matters = "model.layers.2.mlp.up_proj";
  for (const char* policy : {"sensitivity", "bayes"}) {
    SCOPED_TRACE(policy);
    FakeModel model(6, 0.6);
    model.weights[matters] = 100;
    model.request.search = {.evaluations = 40, .depth_bands = 6};
    const auto allocation = model.Allocate(policy);
    ASSERT_TRUE(allocation.ok()) << allocation.status();
    const Ranks ranks = model.RanksOf(*allocation);
    const Ranks uniform = model.RanksOf(*AllocateUniform(model.request));
    EXPECT_LT(model.Increase(ranks), 0.5 * model.Increase(uniform));
    EXPECT_TRUE(ranks.count(matters) == 0 || ranks.at(matters) > uniform.at(matters));
  }
}

TEST(SensitivityTest, EqualisesWhatEachLinearCosts) {
  FakeModel model(6, 0.6);
  for (int i = 0; i < 6; ++i) {
    model.weights["model.layers." + std::to_string(i) + ".mlp.up_proj"] = 1 + 0.3 * i;
  }
  model.request.search.shares = {0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
  const Ranks ranks = model.RanksOf(*model.Allocate("sensitivity"));
  ASSERT_EQ(ranks.size(), 12u);
  EXPECT_EQ(model.asked, 12 * 8);
  double least = 1e9, most = 0;
  for (const auto& [name, rank] : ranks) {
    const double increase = model.Increase({{name, rank}});
    least = std::min(least, increase);
    most = std::max(most, increase);
  }
  // Within a rank step of 1/16 of the size, and the straight lines between measured shares.
  EXPECT_LT(most - least, 0.06);
}

// A rank that happens to help lends nothing: all of its linear's larger ranks count as no worse.
TEST(SensitivityTest, TakesWhatCostsNothingFirst) {
  FakeModel model(4, 0.85);
  model.weights["model.layers.1.mlp.up_proj"] = -1;
  const Ranks ranks = model.RanksOf(*model.Allocate("sensitivity"));
  ASSERT_EQ(ranks.count("model.layers.1.mlp.up_proj"), 1u);
  // 4608 of 27648 numbers; 15% of all are to go, and this one alone can give 70% of its own.
  EXPECT_LE(ranks.at("model.layers.1.mlp.up_proj"), 0.35 * 32);
}

TEST(SensitivityTest, RefusesWhatItHasNotMeasured) {
  FakeModel model(2, 0.2);
  EXPECT_THAT(std::string(model.Allocate("sensitivity").status().message()),
              HasSubstr("--search-shares"));
  model.request.search.shares = {0.5, 1.0};
  EXPECT_THAT(std::string(model.Allocate("sensitivity").status().message()),
              HasSubstr("outside (0, 1)"));
  model.request.search.shares = {0.05, 0.5};
  EXPECT_TRUE(model.Allocate("sensitivity").ok());
  model.request.loss_of = [](const Ranks&) -> absl::StatusOr<MeasuredLoss> {
    return absl::DataLossError("not finite");
  };
  EXPECT_TRUE(absl::IsDataLoss(model.Allocate("sensitivity").status()));
}

TEST(SensitivityTest, LeavesEverythingWhereTheBudgetHoldsIt) {
  EXPECT_TRUE(FakeModel(2, 1.0).Allocate("sensitivity")->empty());
}

// The weight of each type is known to matter; the best split of two types is on a line.
TEST(BayesTest, FindsAKnownOptimum) {
  FakeModel model(4, 0.6);
  for (auto& [name, weight] : model.weights) weight = name.find("q_proj") != name.npos ? 9 : 1;
  model.request.search.evaluations = 25;
  const double found = model.Increase(model.RanksOf(*model.Allocate("bayes")));
  EXPECT_EQ(model.asked, 25);
  // All pairs of ranks, the same in all layers, within the budget; dense among them.
  double best = 1e9;
  for (int64_t q = 0; q < 24; ++q) {
    for (int64_t up = 0; up < 32; ++up) {
      Ranks ranks;
      for (const AllocationLinear& l : model.request.linears) {
        const int64_t rank = l.out_features == 48 ? q : up;
        if (rank > 0) ranks[l.name] = rank;
      }
      if (model.CostOf(ranks) <= model.request.parameters) {
        best = std::min(best, model.Increase(ranks));
      }
    }
  }
  EXPECT_LT(found, 1.05 * best);
  EXPECT_LT(found, 0.8 * model.Increase(model.RanksOf(*AllocateUniform(model.request))));
}

TEST(BayesTest, IsNeverWorseThanUniformAndRepeats) {
  for (const uint64_t seed : {0, 7}) {
    FakeModel model(3, 0.7);
    model.weights["model.layers.1.self_attn.q_proj"] = 5;
    model.request.search = {.evaluations = 8, .depth_bands = 3, .seed = seed};
    const Ranks ranks = model.RanksOf(*model.Allocate("bayes"));
    EXPECT_LE(model.Increase(ranks),
              model.Increase(model.RanksOf(*AllocateUniform(model.request))) + 1e-12);
    EXPECT_EQ(model.RanksOf(*model.Allocate("bayes")), ranks);
  }
}

TEST(BayesTest, RefusesBadSettings) {
  FakeModel model(2, 0.001);
  EXPECT_THAT(std::string(model.Allocate("bayes").status().message()), HasSubstr("below"));
  model.request.search.evaluations = 0;
  EXPECT_THAT(std::string(model.Allocate("bayes").status().message()), HasSubstr("evaluation"));
}

TEST(LaserTest, FindsThePlantedIntervention) {
  FakeModel model(5, 0.8);
  const std::string planted = "model.layers.4.mlp.up_proj";
  // Noise beyond 10% of its rank, which is 4 of 48.
  model.request.loss_of = [&](const Ranks& ranks) -> absl::StatusOr<MeasuredLoss> {
    double increase = 0;
    for (const auto& [name, rank] : ranks) {
      increase += name == planted ? (rank == 4 ? -0.3 : -0.01) : 0.1;
    }
    return MeasuredLoss{.loss = 3 + increase, .increase = increase};
  };
  const auto allocation = model.Allocate("laser");
  ASSERT_TRUE(allocation.ok()) << allocation.status();
  ASSERT_EQ(allocation->size(), 1u);
  EXPECT_EQ(allocation->begin()->first, planted);
  EXPECT_EQ(allocation->begin()->second.rank, 4);
}

// Greedily: what helps alone is kept where it still helps, each linear once, as many as allowed.
TEST(LaserTest, ComposesWhatHelpsTogether) {
  FakeModel model(4, 0.8);
  const std::string prefix = "model.layers.";
  model.request.search.shares = {0.1, 0.5};
  model.request.loss_of = [&](const Ranks& ranks) -> absl::StatusOr<MeasuredLoss> {
    double increase = 0;
    for (const auto& [name, rank] : ranks) {
      if (name == prefix + "0.mlp.up_proj")
        increase -= rank == 4 ? 0.4 : 0.35;
      else if (name == prefix + "1.mlp.up_proj")
        increase -= 0.3;
      else if (name == prefix + "2.mlp.up_proj")
        increase -= 0.2;
      else
        increase += 0.1;
    }
    // The first two undo each other.
    if (ranks.count(prefix + "0.mlp.up_proj") && ranks.count(prefix + "1.mlp.up_proj")) {
      increase += 0.6;
    }
    return MeasuredLoss{.loss = 3 + increase, .increase = increase};
  };
  model.request.search.interventions = 9;
  const Allocation all = *model.Allocate("laser");
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(all.at(prefix + "0.mlp.up_proj").rank, 4);
  EXPECT_EQ(all.count(prefix + "2.mlp.up_proj"), 1u);
  model.request.search.interventions = 1;
  EXPECT_EQ(model.Allocate("laser")->size(), 1u);
}

TEST(LaserTest, ChangesNothingWhereNothingHelps) {
  FakeModel model(2, 0.8);
  EXPECT_TRUE(model.Allocate("laser")->empty());
  model.request.search.interventions = 0;
  EXPECT_FALSE(model.Allocate("laser").ok());
}

}  // namespace
}  // namespace rankine
