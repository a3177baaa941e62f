// qlr and caldera on matrices: budgets, what theory says of them, what the engine computes.
#include "tools/compress/methods/q_plus_lr.h"

#include <limits>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "runtime/device/device.h"
#include "runtime/factor/linear_group.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/block_rounder.h"
#include "tools/compress/dense_product.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MixedMoments;
using testing::NormalMatrix;

Encoding Named(const std::string& name) { return *ParseEncoding(name); }

// One linear and what it is factored with.
struct Case {
  Matrix64 w;
  Moments moments;
  std::string name = "model.layers.0.mlp.up_proj";
  Budget budget{.rank = 6};
  std::string factors = "int4:g16";

  absl::StatusOr<Factorization> Run(const std::string& method, const OptionValues& values = {},
                                    bool calibrated = true) const {
    const Method& m = **FindMethod(method);
    auto settings = MethodSettings::Create(m.name, m.options, values);
    if (!settings.ok()) return settings.status();
    const MethodInput input{.name = name,
                            .weight = &w,
                            .moments = calibrated ? &moments : nullptr,
                            .budget = budget,
                            .encoding = Named(factors),
                            .settings = &*settings};
    auto results = RunMethod(m, {&input, 1});
    if (!results.ok()) return results.status();
    return std::move((*results)[0]);
  }

  double Error(const Factorization& f) const {
    const Matrix64 product = *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
    return SquaredWeightedNorm(Difference(w, product), moments.second);
  }
};

Case MakeCase(int64_t m = 48, int64_t n = 64, uint64_t seed = 1) {
  return {.w = NormalMatrix(m, n, seed), .moments = MixedMoments(n, 3 * n, seed + 10)};
}

int64_t BitsOf(const Factorization& f) { return SizeOfStored({&f.matrix, 1}, f.tensors).bits; }

Matrix64 BaseOf(const Factorization& f) {
  FactoredMatrix base = f.matrix;
  base.terms.resize(1);
  return *DenseProduct(base, StoredTensorSource(f.tensors));
}

TEST(QPlusLrTest, RankIsWhatTheBitsLeave) {
  for (const char* method : {"qlr", "caldera"}) {
    for (const char* factors : {"int4:g16", "bf16", "int8:g64"}) {
      for (const double bits : {5.0, 6.5, 7.25}) {
        Case c = MakeCase();
        c.factors = factors;
        c.budget = {.bits = bits * 48 * 64};
        const auto f = c.Run(method, {{"base-encode", "int3:g64"}, {"iterations", "1"}});
        ASSERT_TRUE(f.ok()) << f.status();
        EXPECT_LE(BitsOf(*f), c.budget.bits);
        c.budget = {.rank = f->rank + 1};
        const auto more = c.Run(method, {{"base-encode", "int3:g64"}, {"iterations", "1"}});
        ASSERT_TRUE(more.ok()) << more.status();
        EXPECT_GT(BitsOf(*more), bits * 48 * 64) << method << " " << factors << " " << bits;
      }
    }
  }
  EXPECT_EQ(*RankBesideBase({.bits = 6 * 48 * 64, .rank_multiple = 4}, 48, 64, Named("int3:g64"),
                            Named("int8:g64"), 0) %
                4,
            0);
}

TEST(QPlusLrTest, BudgetsThatCannotBeAreNamed) {
  for (const char* method : {"qlr", "caldera"}) {
    Case c = MakeCase();
    c.budget = {.bits = 3.3 * 48 * 64};
    EXPECT_THAT(std::string(c.Run(method, {{"base-encode", "int3:g64"}}).status().message()),
                AllOf(HasSubstr("3.3 bits a weight"), HasSubstr("int3:g64"), HasSubstr("--skip")));
    c.budget = {.parameters = 0.8 * 48 * 64};
    EXPECT_THAT(std::string(c.Run(method).status().message()), HasSubstr("give --bits"));
    for (const int64_t rank : {-1, 49}) {
      c.budget = {.rank = rank};
      EXPECT_THAT(std::string(c.Run(method).status().message()), HasSubstr("[1, 48]"));
    }
    c.budget = {.rank = 4};
    EXPECT_THAT(std::string(c.Run(method, {{"base-encode", "bf16"}}).status().message()),
                HasSubstr("float encoding"));
    Case narrow = MakeCase(6, 12);
    narrow.budget = {.rank = 2};
    EXPECT_THAT(std::string(narrow.Run(method, {{"base-encode", "e8p"}}).status().message()),
                HasSubstr("codewords"));
  }
}

TEST(QPlusLrTest, TheBaseIsPlainRoundingAndExactBeatsEveryOtherNorm) {
  for (const uint64_t seed : {1, 2, 3}) {
    Case c = MakeCase(40, 64, seed);
    c.factors = "f32";
    const auto exact = c.Run("qlr", {{"base-encode", "int3:g32"}});
    ASSERT_TRUE(exact.ok()) << exact.status();
    EXPECT_EQ(exact->rank, 6);
    ASSERT_EQ(exact->matrix.terms.size(), 2u);
    const std::vector<float> values(c.w.values.begin(), c.w.values.end());
    BlockRowsBuffer rows;
    ASSERT_TRUE(EncodeRows(values.data(), 40, 64, Named("int3:g32"), &rows).ok());
    EXPECT_EQ(BaseOf(*exact).values, Decoded(rows).values);
    for (const char* scaling : {"diagonal", "l2qer", "identity"}) {
      const auto other = c.Run("qlr", {{"base-encode", "int3:g32"}, {"scaling", scaling}});
      ASSERT_TRUE(other.ok()) << other.status();
      EXPECT_LT(c.Error(*exact), c.Error(*other)) << scaling;
    }
  }
}

TEST(QPlusLrTest, IdentityNeedsNoText) {
  const Case c = MakeCase();
  EXPECT_TRUE(c.Run("qlr", {{"scaling", "identity"}}, false).ok());
  EXPECT_THAT(std::string(c.Run("qlr", {}, false).status().message()),
              AllOf(HasSubstr("--scaling exact"), HasSubstr("--calibration")));
}

// But for the descent from caldera's best iterate: a better one may end higher.
TEST(QPlusLrTest, MoreIterationsAreNeverWorse) {
  const Case c = MakeCase();
  for (const char* method : {"qlr", "caldera"}) {
    double previous = std::numeric_limits<double>::infinity();
    for (const char* iterations : {"1", "2", "6"}) {
      OptionValues options = {{"base-encode", "int2:g32:offset"}, {"iterations", iterations}};
      if (method == std::string("caldera")) options["passes"] = "0";
      const auto f = c.Run(method, options);
      ASSERT_TRUE(f.ok()) << f.status();
      EXPECT_LE(c.Error(*f), previous * (1 + 1e-9)) << method;
      previous = c.Error(*f);
    }
  }
}

// The descent begins at an iterate of the same search and lowers it.
TEST(QPlusLrTest, DescentLowersTheError) {
  for (const char* base : {"int3:g32", "int2:g32:offset", "e8p"}) {
    for (const char* factors : {"f32", "int4:g16"}) {
      Case c = MakeCase(56, 64, 5);
      c.factors = factors;
      const auto plain = c.Run("caldera", {{"base-encode", base}, {"passes", "0"}});
      const auto descended = c.Run("caldera", {{"base-encode", base}});
      ASSERT_TRUE(plain.ok() && descended.ok()) << descended.status();
      EXPECT_LT(c.Error(*descended), 0.99 * c.Error(*plain)) << base << " " << factors;
    }
  }
}

// It starts from there: the same Q, the same L R.
TEST(QPlusLrTest, CalderaIsNeverWorseThanQeraOnTheSameGrid) {
  for (const uint64_t seed : {1, 2, 3}) {
    for (const char* base : {"int4:g64", "int2:g32", "e8p"}) {
      for (const char* factors : {"bf16", "int4:g16"}) {
        Case c = MakeCase(56, 64, seed);
        c.factors = factors;
        const auto qera = c.Run("qlr", {{"base-encode", base}});
        const auto caldera = c.Run("caldera", {{"base-encode", base}, {"hadamard", "0"}});
        ASSERT_TRUE(qera.ok() && caldera.ok()) << caldera.status();
        EXPECT_LE(c.Error(*caldera), c.Error(*qera)) << base << " " << factors;
      }
    }
  }
}

// What the search has measured in the rotated basis is what the stored form is worth in the
// layer's own: DenseProduct undoes the transforms.
TEST(QPlusLrTest, RotationKeepsTheError) {
  Case c = MakeCase(48, 72, 4);  // 16 x 3, 8 x 9
  c.factors = "int8:g16";
  const auto f = c.Run("caldera");
  ASSERT_TRUE(f.ok()) << f.status();
  ASSERT_EQ(f->matrix.input_transforms.size(), 1u);
  ASSERT_EQ(f->matrix.output_transforms.size(), 1u);
  const double total = SquaredWeightedNorm(c.w, c.moments.second);
  // 2 bits and rank 6 of 48: far from exact, further from wrong.
  EXPECT_LT(c.Error(*f), 0.1 * total);
  EXPECT_GT(c.Error(*f), 1e-4 * total);
  // Without the transforms it is another matrix.
  FactoredMatrix plain = f->matrix;
  plain.input_transforms.clear();
  plain.output_transforms.clear();
  const Matrix64 rotated = *DenseProduct(plain, StoredTensorSource(f->tensors));
  EXPECT_GT(SquaredWeightedNorm(Difference(c.w, rotated), c.moments.second), total);
}

TEST(QPlusLrTest, DeadFeaturesAndFewTokensDoNoHarm) {
  for (const char* method : {"qlr", "caldera"}) {
    for (const Moments& moments : {MixedMoments(64, 200, 3, {0, 5, 63}), MixedMoments(64, 9, 4)}) {
      Case c = MakeCase();
      c.moments = moments;
      const auto f = c.Run(method, {{"base-encode", "int4:g64"}});
      ASSERT_TRUE(f.ok()) << f.status();
      EXPECT_LT(c.Error(*f), 0.05 * SquaredWeightedNorm(c.w, moments.second));
    }
    Case c = MakeCase();
    c.moments.second = Matrix64(64, 64);
    EXPECT_THAT(std::string(c.Run(method).status().message()), HasSubstr("never excites"));
  }
}

TEST(QPlusLrTest, SmallShapes) {
  for (const char* method : {"qlr", "caldera"}) {
    Case c = MakeCase(5, 7);  // narrower than a group
    c.budget = {.rank = 1};
    const auto f = c.Run(method, {{"base-encode", "int4:g64"}});
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_EQ(f->rank, 1);
    EXPECT_LT(c.Error(*f), 0.05 * SquaredWeightedNorm(c.w, c.moments.second));
  }
}

// A weight that lies on Q's grid leaves nothing to L R.
TEST(QPlusLrTest, AWeightOnTheGridStaysAsItIs) {
  Case c = MakeCase();
  const std::vector<float> values(c.w.values.begin(), c.w.values.end());
  BlockRowsBuffer rows;
  ASSERT_TRUE(EncodeRows(values.data(), 48, 64, Named("int4:g32"), &rows).ok());
  c.w = Decoded(rows);
  const auto f = c.Run("qlr", {{"base-encode", "int4:g32"}});
  ASSERT_TRUE(f.ok()) << f.status();
  // Scales are fitted again and may round to their neighbour.
  EXPECT_LT(c.Error(*f), 1e-5 * SquaredWeightedNorm(c.w, c.moments.second));
}

TEST(QPlusLrTest, LinearsThatReadOneWidthShareTheirSigns) {
  const std::vector<LinearShape> shapes = {{"m.0.attn.q", 8, 16},
                                           {"m.0.attn.o", 16, 16},
                                           {"m.0.mlp.up", 24, 16},
                                           {"m.0.mlp.down", 16, 24}};
  const Method& caldera = **FindMethod("caldera");
  const MethodSettings settings = *MethodSettings::Create("caldera", caldera.options, {});
  EXPECT_THAT(caldera.join(shapes, settings),
              ::testing::UnorderedElementsAre(ElementsAre(0, 1), ElementsAre(2), ElementsAre(3)));

  const Case a = MakeCase(24, 48, 1), b = MakeCase(32, 48, 1);
  std::vector<MethodInput> inputs(2);
  for (size_t i = 0; i < 2; ++i) {
    inputs[i] = {.name = i == 0 ? "m.0.attn.q" : "m.0.attn.v",
                 .weight = i == 0 ? &a.w : &b.w,
                 .moments = &a.moments,
                 .budget = {.rank = 4},
                 .encoding = Named("int8:g16"),
                 .settings = &settings};
  }
  const auto results = RunMethod(caldera, inputs);
  ASSERT_TRUE(results.ok()) << results.status();
  std::set<std::string> names;
  std::vector<StoredTensor> all;
  for (const Factorization& f : *results) {
    for (const StoredTensor& t : f.tensors) {
      EXPECT_TRUE(names.insert(t.name).second) << t.name;
      all.push_back(t);
    }
  }
  EXPECT_EQ((*results)[0].matrix.input_transforms[0].tensor,
            (*results)[1].matrix.input_transforms[0].tensor);

  // And the engine computes what the cores say: columns of W' are answers to unit vectors.
  auto device = MakeCpuDevice({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  const StoredTensorSource source(all);
  const std::vector<FactoredMatrix> matrices = {(*results)[0].matrix, (*results)[1].matrix};
  const auto group = LinearGroup::Load(
      **device, matrices,
      {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false}, source);
  ASSERT_TRUE(group.ok()) << group.status();
  const int64_t n = 48;
  std::vector<float> x(n * n), y(n * group->output_columns());
  for (int64_t i = 0; i < n; ++i) x[i * n + i] = 1;
  const auto workspace = Buffer::Allocate(**device, group->workspace_bytes(n) + 64);
  ASSERT_TRUE(workspace.ok());
  group->Run(**device,
             {.dense = {.data = x.data(), .dtype = DType::kF32, .rows = n, .cols = n, .stride = n}},
             {.data = y.data(),
              .dtype = DType::kF32,
              .rows = n,
              .cols = group->output_columns(),
              .stride = group->output_columns()},
             workspace->data(), false);
  for (int i = 0; i < 2; ++i) {
    const Matrix64 product = *DenseProduct(matrices[i], source);
    for (int64_t row = 0; row < product.rows; ++row) {
      for (int64_t col = 0; col < n; ++col) {
        // Sums of up to 48 numbers of magnitude 4 and transforms of five levels, in f32.
        EXPECT_NEAR(y[col * group->output_columns() + group->output_column(i) + row],
                    product(row, col), 64 * 4 * 0x1p-23);
      }
    }
  }
}

TEST(QPlusLrTest, TheSameSeedGivesTheSameBytes) {
  const Case c = MakeCase(16, 24, 5);
  const auto a = c.Run("caldera"), b = c.Run("caldera"), other = c.Run("caldera", {{"seed", "2"}});
  ASSERT_TRUE(a.ok() && b.ok() && other.ok());
  bool differs = false;
  for (size_t i = 0; i < a->tensors.size(); ++i) {
    EXPECT_EQ(a->tensors[i].bytes, b->tensors[i].bytes);
    differs = differs || a->tensors[i].bytes != other->tensors[i].bytes;
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace rankine
