// Stacks of attention projections: what is shared, what it keeps, and what the engine makes of it.
#include "tools/compress/methods/tucker_stack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "tests/runtime/factor/group_testing.h"
#include "tests/tools/compress/stack_testing.h"
#include "tools/compress/dense_product.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MixedMoments;
using testing::NormalMatrix;
using testing::Projections;

const Encoding kF32 = Encoding::Float(DType::kF32);
// Of 1e-7 in each number; the products of three factors do not cancel.
constexpr double kF32Tolerance = 1e-6;

struct StackCase {
  OptionValues options = {{"stack", "qkvo"}};
  // Of each of the four.
  double keep = 0;
  int64_t rank = 0;
  double bits = 0;
  Encoding encoding = kF32;
  const Moments* inputs = nullptr;      // of q, k and v
  const Moments* transposed = nullptr;  // of o
};

// The projections as the method gets them, in the order of their names in a model: k, o, q, v.
class Inputs {
 public:
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;
  Inputs(const Projections& p, StackCase c) : case_(std::move(c)), projections_(p) {
    if (case_.inputs == nullptr) case_.options["weighting"] = "none";
    auto settings = MethodSettings::Create("tucker", kTuckerMethod.options, case_.options);
    EXPECT_TRUE(settings.ok()) << settings.status();
    settings_ = *std::move(settings);
    for (const size_t i : {1, 3, 0, 2}) {
      const auto size = static_cast<double>(projections_.weights[i].values.size());
      inputs.push_back(
          {.name = std::string("model.layers.0.self_attn.") + Projections::kNames[i] + "_proj",
           .weight = &projections_.weights[i],
           .moments = i == 3 ? case_.transposed : case_.inputs,
           .heads = AttentionHeads{Projections::kHeads[i], Projections::kDim, i == 3},
           .budget = {.rank = case_.rank,
                      .parameters = case_.keep * size,
                      .bits = case_.bits * size},
           .encoding = case_.encoding,
           .settings = &settings_});
    }
  }

  absl::StatusOr<std::vector<Factorization>> Run() const { return FactorizeTuckerJointly(inputs); }
  std::string Error() const { return std::string(Run().status().message()); }

  std::vector<MethodInput> inputs;

 private:
  StackCase case_;
  Projections projections_;
  MethodSettings settings_;
};

std::vector<StoredTensor> TensorsOf(const std::vector<Factorization>& factors) {
  std::vector<StoredTensor> tensors;
  for (const Factorization& f : factors) {
    tensors.insert(tensors.end(), f.tensors.begin(), f.tensors.end());
  }
  return tensors;
}

std::vector<FactoredMatrix> MatricesOf(const std::vector<Factorization>& factors) {
  std::vector<FactoredMatrix> matrices;
  for (const Factorization& f : factors) {
    if (!f.matrix.terms.empty()) matrices.push_back(f.matrix);
  }
  return matrices;
}

// Sum of squared errors, each linear's under its inputs and as a share of E|y|^2 where there are
// some.
double Loss(const Inputs& inputs, const std::vector<Factorization>& factors) {
  const std::vector<StoredTensor> tensors = TensorsOf(factors);
  const StoredTensorSource source(tensors);
  double loss = 0;
  for (size_t i = 0; i < factors.size(); ++i) {
    const Matrix64& w = *inputs.inputs[i].weight;
    const Matrix64 delta = Difference(w, *DenseProduct(factors[i].matrix, source));
    const Moments* moments = inputs.inputs[i].moments;
    loss += moments == nullptr ? SquaredNorm(delta)
                               : SquaredWeightedNorm(delta, moments->second) /
                                     SquaredWeightedNorm(w, moments->second);
  }
  return loss;
}

TEST(TuckerStackTest, KeepsNoLessThanNumPysHosvdAndHooi) {
  int cases = 0;
  const nlohmann::json golden = testing::GoldenOf("stacks.json");
  for (const auto& j : golden.at("stacks")) {
    SCOPED_TRACE(j.at("name").get<std::string>());
    std::string ranks;
    for (const int64_t r : j.at("ranks")) ranks += (ranks.empty() ? "" : ",") + std::to_string(r);
    const Inputs inputs(Projections::Of(j.at("weights")),
                        {.options = {{"stack", "qkvo"}, {"ranks", ranks}}, .bits = 1e6});
    const auto factors = inputs.Run();
    ASSERT_TRUE(factors.ok()) << factors.status();
    const double loss = Loss(inputs, *factors), hosvd = j.at("hosvd_loss");
    EXPECT_LE(loss, hosvd * (1 + kF32Tolerance));
    // HOOI may end in another local optimum than NumPy's, but not here.
    EXPECT_NEAR(loss, j.at("hooi_loss").get<double>(), 1e-4 * hosvd);
    ++cases;
  }
  EXPECT_EQ(cases, 2);
}

TEST(TuckerStackTest, FourLinearsTakeRangesOfOneCore) {
  const Inputs inputs(Projections(),
                      {.options = {{"stack", "qkvo"}, {"ranks", "5,3,7"}}, .bits = 1e6});
  const auto factors = inputs.Run();
  ASSERT_TRUE(factors.ok()) << factors.status();
  const std::vector<FactoredMatrix> matrices = MatricesOf(*factors);
  const std::vector<StoredTensor> tensors = TensorsOf(*factors);
  ASSERT_EQ(matrices.size(), 4u);
  EXPECT_EQ(tensors.size(), 4u);  // A, B, C, G, once
  EXPECT_EQ(SizeOfStored(matrices, tensors).parameters, 12 * 5 + 4 * 3 + 12 * 7 + 5 * 3 * 7);
  // Counted with q alone.
  EXPECT_EQ((*factors)[2].tensors.size(), 4u);
  EXPECT_EQ(SizeOfStored({&(*factors)[2].matrix, 1}, (*factors)[2].tensors).parameters,
            12 * 5 + 4 * 3 + 12 * 7 + 5 * 3 * 7);
  const FactoredMatrix& o = matrices[1];
  EXPECT_EQ(o.name, "model.layers.0.self_attn.o_proj");
  EXPECT_EQ(o.input_legs.size(), 2u);
  const LegRange& heads = o.terms[0].cores[0].legs[0];
  EXPECT_EQ(heads.offset, 8);
  EXPECT_EQ(heads.extent, 4);
  EXPECT_EQ(heads.stored_extent, 12);
}

TEST(TuckerStackTest, RanksInFullAreTheWeights) {
  for (const char* stack : {"qkv", "qkvo"}) {
    const Moments x = MixedMoments(12, 40, 3), xo = MixedMoments(16, 60, 4);
    const bool all = std::string(stack) == "qkvo";
    Inputs inputs(Projections(),
                  {.options = {{"stack", stack}, {"ranks", all ? "12,4,12" : "8,4,12"}},
                   .bits = 1e6,
                   .inputs = &x,
                   .transposed = &xo});
    if (!all) inputs.inputs.erase(inputs.inputs.begin() + 1);
    const auto factors = inputs.Run();
    ASSERT_TRUE(factors.ok()) << factors.status();
    EXPECT_LT(Loss(inputs, *factors), kF32Tolerance * kF32Tolerance * 4);
  }
}

TEST(TuckerStackTest, NeverAboveTheBudgetOfAll) {
  const Moments x = MixedMoments(12, 40, 5), xo = MixedMoments(16, 60, 6);
  for (const bool weighted : {false, true}) {
    double before = std::numeric_limits<double>::infinity();
    for (const double keep : {0.2, 0.4, 0.6, 0.8, 0.95}) {
      StackCase c{.keep = keep};
      if (weighted) c.inputs = &x, c.transposed = &xo;
      const Inputs inputs(Projections(), c);
      const auto factors = inputs.Run();
      ASSERT_TRUE(factors.ok()) << factors.status();
      const auto size = SizeOfStored(MatricesOf(*factors), TensorsOf(*factors));
      EXPECT_LE(static_cast<double>(size.parameters), keep * 12 * 4 * 12);
      const double loss = Loss(inputs, *factors);
      EXPECT_LT(loss, before);
      before = loss;
    }
  }
  const Inputs bits(Projections(), {.bits = 16 * 0.5, .encoding = Encoding::Float(DType::kBF16)});
  const auto by_bits = bits.Run();
  ASSERT_TRUE(by_bits.ok()) << by_bits.status();
  EXPECT_LE(SizeOfStored(MatricesOf(*by_bits), TensorsOf(*by_bits)).bits, 16 * 0.5 * 12 * 4 * 12);
  const Inputs dense(Projections(), {.keep = 1});
  const auto left = dense.Run();
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_TRUE(MatricesOf(*left).empty());
}

TEST(TuckerStackTest, WeightingLowersTheSumOfTheErrorsOnTheirInputs) {
  const Moments x = MixedMoments(12, 40, 7), xo = MixedMoments(16, 60, 8);
  for (const char* stack : {"qkv", "qkvo"}) {
    const OptionValues options{{"stack", stack}, {"ranks", stack[3] != 0 ? "6,3,6" : "5,3,6"}};
    OptionValues plain = options;
    plain["weighting"] = "none";
    Inputs full(Projections(), {options, 0, 0, 1e6, kF32, &x, &xo}),
        none(Projections(), {plain, 0, 0, 1e6, kF32, &x, &xo});
    if (stack[3] == 0) {
      full.inputs.erase(full.inputs.begin() + 1);
      none.inputs.erase(none.inputs.begin() + 1);
    }
    const auto a = full.Run(), b = none.Run();
    ASSERT_TRUE(a.ok() && b.ok()) << a.status();
    EXPECT_LT(Loss(full, *a), Loss(none, *b)) << stack;
  }
}

TEST(TuckerStackTest, FindsWhatTheProjectionsShare) {
  // All four see the same four directions of the features.
  Projections p;
  const Matrix64 basis = NormalMatrix(4, 12, 9);
  for (size_t i = 0; i < 4; ++i) {
    const Matrix64 w = MatrixProduct(NormalMatrix(Projections::kHeads[i] * 4, 4, 10 + i), basis);
    p.weights[i] = i < 3 ? w : Transposed(w);
  }
  const Moments x = MixedMoments(12, 40, 15), xo = MixedMoments(16, 60, 16);
  for (const bool weighted : {false, true}) {
    // 12 x 4 x 4 and 4 x 12 numbers of 576.
    StackCase c{.keep = 240.0 / 576};
    if (weighted) c.inputs = &x, c.transposed = &xo;
    const Inputs inputs(p, c);
    const auto factors = inputs.Run();
    ASSERT_TRUE(factors.ok()) << factors.status();
    EXPECT_LT(Loss(inputs, *factors), weighted ? 1e-8 : 1e-8 * SquaredNorm(p.Stacked()));
  }
}

TEST(TuckerStackTest, JoinsWhatTheOptionSays) {
  const std::vector<LinearShape> linears = {{"model.layers.0.mlp.up_proj", 48, 12},
                                            {"model.layers.0.self_attn.k_proj", 8, 12},
                                            {"model.layers.0.self_attn.o_proj", 12, 16},
                                            {"model.layers.0.self_attn.q_proj", 16, 12},
                                            {"model.layers.0.self_attn.v_proj", 8, 12}};
  const auto joined = [&](const char* stack) {
    auto settings = MethodSettings::Create("tucker", kTuckerMethod.options, {{"stack", stack}});
    auto groups = JoinTucker(linears, *settings);
    std::sort(groups.begin(), groups.end());
    return groups;
  };
  using Groups = std::vector<std::vector<size_t>>;
  EXPECT_EQ(joined("none"), (Groups{{0}, {1}, {2}, {3}, {4}}));
  EXPECT_EQ(joined("qkv"), (Groups{{0}, {1, 3, 4}, {2}}));
  EXPECT_EQ(joined("qkvo"), (Groups{{0}, {1, 2, 3, 4}}));
  const std::vector<LinearShape> bert = {{"encoder.layer.1.attention.self.query", 12, 12},
                                         {"encoder.layer.1.attention.output.dense", 12, 12}};
  const auto settings =
      MethodSettings::Create("tucker", kTuckerMethod.options, {{"stack", "qkvo"}});
  EXPECT_EQ(JoinTucker(bert, *settings), (Groups{{0, 1}}));
}

TEST(TuckerStackTest, NamesWhatDoesNotFit) {
  const StackCase half{.keep = 0.5};
  // Of inputs k, o, q, v that `change` has spoilt.
  const auto error = [&](auto change) {
    Inputs inputs(Projections(), half);
    change(&inputs.inputs);
    return inputs.Error();
  };
  using List = std::vector<MethodInput>;
  EXPECT_THAT(error([](List* l) { l->pop_back(); }),
              AllOf(HasSubstr("one tensor of model.layers.0.self_attn, but its value projection is "
                              "not selected"),
                    HasSubstr("--stack none")));
  EXPECT_THAT(error([](List* l) { l->at(0).heads.reset(); }),
              HasSubstr("self_attn.k_proj does not fit into the stack: the model's config gives "
                        "its [8, 12] no attention heads"));
  EXPECT_THAT(error([](List* l) {
                l->at(3).heads = AttentionHeads{4, 2};
              }),
              HasSubstr("v_proj does not fit into the stack: its heads have 2 dimensions, those of "
                        "model.layers.0.self_attn.q_proj 4"));
  const Matrix64 wide = NormalMatrix(14, 16, 1);
  EXPECT_THAT(error([&](List* l) { l->at(1).weight = &wide; }),
              HasSubstr("o_proj does not fit into the stack: beside the heads it has 14 features, "
                        "model.layers.0.self_attn.q_proj 12"));
  StackCase c = half;
  c.options["ways"] = "2";
  EXPECT_THAT(Inputs(Projections(), c).Error(), HasSubstr("three modes"));
  c = half;
  c.encoding = *ParseEncoding("int4:g16");
  EXPECT_THAT(Inputs(Projections(), c).Error(), HasSubstr("use --stack qkv"));
  c = half;
  c.keep = 0.02;
  EXPECT_THAT(Inputs(Projections(), c).Error(), HasSubstr("below rank 1"));
  c = half;
  c.options["ranks"] = "12,4,11";
  EXPECT_THAT(Inputs(Projections(), c).Error(), HasSubstr("more than the budget"));
  Projections bad;
  bad.weights[3](0, 0) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(Inputs(bad, half).Run().ok());
}

class TuckerStackEngineTest : public GroupTest {};

// q, k and v run as a group and o alone, on the shared cores; what q, k and v have in common is in
// memory once.
TEST_F(TuckerStackEngineTest, RunsWhatIsStored) {
  const std::pair<const char*, const char*> cases[] = {
      {"qkvo", "5,3,7"}, {"qkvo", "12,4,6"}, {"qkvo", "10,4,12"}, {"qkv", "6,3,5"}};
  for (const auto& [stack, ranks] : cases) {
    SCOPED_TRACE(ranks);
    Inputs inputs(Projections(), {.options = {{"stack", stack}, {"ranks", ranks}}, .bits = 1e6});
    const bool all = std::string(stack) == "qkvo";
    if (!all) inputs.inputs.erase(inputs.inputs.begin() + 1);
    const auto factors = inputs.Run();
    ASSERT_TRUE(factors.ok()) << factors.status();
    const std::vector<StoredTensor> tensors = TensorsOf(*factors);
    const StoredTensorSource source(tensors);
    std::vector<std::vector<FactoredMatrix>> groups(1);
    for (const Factorization& f : *factors) {
      if (f.matrix.name.find("o_proj") != std::string::npos) {
        groups.push_back({f.matrix});
      } else {
        groups[0].push_back(f.matrix);
      }
    }
    for (const std::vector<FactoredMatrix>& matrices : groups) {
      auto group = LinearGroup::Load(
          *device_, matrices,
          {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false}, source);
      ASSERT_TRUE(group.ok()) << group.status();
      const int64_t in = matrices[0].in_features;
      const std::vector<float> x = RandomRows(3, in);
      const std::vector<float> y = Run(*group, x, 3);
      for (size_t i = 0; i < matrices.size(); ++i) {
        const Matrix64 product = *DenseProduct(matrices[i], source);
        for (int64_t t = 0; t < 3; ++t) {
          for (int64_t row = 0; row < product.rows; ++row) {
            double expected = 0, size = 0;
            for (int64_t j = 0; j < in; ++j) {
              expected += product(row, j) * x[static_cast<size_t>(t * in + j)];
              size += std::abs(product(row, j) * x[static_cast<size_t>(t * in + j)]);
            }
            const int64_t at =
                t * group->output_columns() + group->output_column(static_cast<int>(i)) + row;
            // Chains of at most 60 terms in f32; partial sums are up to ten times the products'.
            EXPECT_NEAR(y[static_cast<size_t>(at)], expected, 60 * 0x1p-24 * 10 * (1 + size));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace rankine
