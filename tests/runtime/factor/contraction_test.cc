#include "runtime/factor/contraction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace rankine {
namespace {

constexpr Encoding kBf16 = Encoding::Float(DType::kBF16);

Core MakeCore(std::string name, std::vector<LegRange> legs) {
  return {.name = std::move(name), .legs = std::move(legs), .encoding = kBf16};
}

std::vector<ContractionOrder> Orders(const FactoredMatrix& m) {
  auto orders = EnumerateOrders(m, m.terms[0]);
  EXPECT_TRUE(orders.ok()) << orders.status();
  return *std::move(orders);
}

const ContractionOrder& Find(const std::vector<ContractionOrder>& orders,
                             const std::string& expression) {
  const auto it = std::find_if(orders.begin(), orders.end(), [&](const ContractionOrder& o) {
    return o.expression == expression;
  });
  EXPECT_NE(it, orders.end()) << expression;
  return *it;
}

TEST(ContractionTest, DenseHasOneOrder) {
  const auto orders = Orders(DenseMatrix("w", 30, 20, kBf16, "w.weight"));
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(orders[0].expression, "x W");
  EXPECT_TRUE(orders[0].is_dense);
  EXPECT_EQ(orders[0].weight_bytes(), 30 * 20 * 2);
  EXPECT_EQ(orders[0].multiply_adds_per_token(), 30 * 20);
}

TEST(ContractionTest, FirstOrderOfUsvIsTheFactoredOneWithoutFoldings) {
  const auto orders = Orders(SvdMatrix("w", 30, 20, 7, kBf16));
  EXPECT_EQ(orders[0].expression, "((x V) S) U");
  EXPECT_EQ(orders[0].num_foldings, 0);
  EXPECT_EQ(orders[0].num_products(), 2);
  EXPECT_EQ(orders[0].weight_bytes(), 7 * (30 + 20) * 2 + 7 * 4);
  EXPECT_EQ(orders[0].multiply_adds_per_token(), 7 * 20 + 7 + 7 * 30);
}

TEST(ContractionTest, UsvOffersFoldingsAndMaterialisation) {
  const auto orders = Orders(SvdMatrix("w", 30, 20, 7, kBf16));
  EXPECT_EQ(Find(orders, "(x [S V]) U").num_foldings, 1);
  EXPECT_EQ(Find(orders, "(x V) [U S]").num_foldings, 1);
  const auto dense =
      std::find_if(orders.begin(), orders.end(), [](const auto& o) { return o.is_dense; });
  ASSERT_NE(dense, orders.end());
  EXPECT_EQ(dense->weight_bytes(), 30 * 20 * 2);
  EXPECT_EQ(dense->multiply_adds_per_token(), 30 * 20);
}

TEST(ContractionTest, NoTwoOrdersAreAlike) {
  const auto orders = Orders(SvdMatrix("w", 30, 20, 7, kBf16));
  std::vector<std::string> expressions;
  for (const ContractionOrder& o : orders) expressions.push_back(o.expression);
  std::sort(expressions.begin(), expressions.end());
  EXPECT_EQ(std::adjacent_find(expressions.begin(), expressions.end()), expressions.end());
}

// A matrix product operator of equal sites with one bond dimension.
FactoredMatrix Mpo(int sites, int64_t site, int64_t bond) {
  FactoredMatrix m{.name = "w", .out_features = 1, .in_features = 1};
  Term term;
  for (int s = 0; s < sites; ++s) {
    const std::string n = std::to_string(s);
    m.output_legs.push_back({"o" + n, site});
    m.input_legs.push_back({"i" + n, site});
    m.out_features *= site;
    m.in_features *= site;
    std::vector<LegRange> legs;
    if (s > 0) legs.push_back({"x" + std::to_string(s - 1), 0, bond});
    legs.push_back({"o" + n, 0, site});
    legs.push_back({"i" + n, 0, site});
    if (s + 1 < sites) legs.push_back({"x" + n, 0, bond});
    term.cores.push_back(MakeCore("C" + n, legs));
  }
  m.terms = {term};
  return m;
}

int64_t LeastMultiplyAdds(const std::vector<ContractionOrder>& orders, int foldings) {
  int64_t least = INT64_MAX;
  for (const ContractionOrder& o : orders) {
    if (o.num_foldings == foldings) least = std::min(least, o.multiply_adds_per_token());
  }
  return least;
}

// The two facts of the planner's design: what 4096 x 4096 costs as matrix product operators at bond
// 100.
TEST(ContractionTest, MpoOfTwoSitesReadsTwentyTimesLessForThreeTimesTheWork) {
  const auto orders = Orders(Mpo(2, 64, 100));
  constexpr double kDense = 4096.0 * 4096.0;
  EXPECT_NEAR(kDense * 2 / static_cast<double>(orders[0].weight_bytes()), 20.5, 0.1);
  EXPECT_NEAR(static_cast<double>(LeastMultiplyAdds(orders, 0)) / kDense, 3.1, 0.1);
}

TEST(ContractionTest, MpoOfThreeSitesNeedsFortyTimesTheWorkUnlessFolded) {
  const auto orders = Orders(Mpo(3, 16, 100));
  constexpr double kDense = 4096.0 * 4096.0;
  EXPECT_NEAR(static_cast<double>(LeastMultiplyAdds(orders, 0)) / kDense, 40, 3);
  EXPECT_LT(static_cast<double>(LeastMultiplyAdds(orders, 1)) / kDense, 15);
}

TEST(ContractionTest, TuckerRunsInputSideFirst) {
  FactoredMatrix m{.name = "w", .out_features = 40, .in_features = 50};
  m.output_legs = {{"o", 40}};
  m.input_legs = {{"i", 50}};
  m.terms = {
      Term{{MakeCore("A", {{"o", 0, 40}, {"a", 0, 5}}), MakeCore("G", {{"a", 0, 5}, {"b", 0, 6}}),
            MakeCore("B", {{"b", 0, 6}, {"i", 0, 50}})}}};
  const auto orders = Orders(m);
  EXPECT_EQ(orders[0].expression, "((x B) G) A");
  EXPECT_EQ(orders[0].multiply_adds_per_token(), 6 * 50 + 5 * 6 + 5 * 40);
  EXPECT_EQ(Find(orders, "(x [G B]) A").multiply_adds_per_token(), 5 * 50 + 5 * 40);
}

TEST(ContractionTest, TooManyCoresAreRefusedByName) {
  FactoredMatrix m = Mpo(3, 2, 2);
  while (m.terms[0].cores.size() < 7) m.terms[0].cores.push_back(m.terms[0].cores[0]);
  const auto orders = EnumerateOrders(m, m.terms[0]);
  EXPECT_EQ(orders.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(orders.status().message()), testing::HasSubstr("7 cores"));
}

}  // namespace
}  // namespace rankine
