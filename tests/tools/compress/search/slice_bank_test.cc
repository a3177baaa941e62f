#include "tools/compress/search/slice_bank.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/calibration.h"
#include "tools/compress/dense_product.h"
#include "tools/compress/layer_factorizer.h"

namespace rankine {
namespace {

using testing::TempFolder;

constexpr int64_t kWindows = 6, kTokens = 64;
const char kUp[] = "model.layers.1.mlp.up_proj", kQ[] = "model.layers.1.self_attn.q_proj";

absl::Status Ignore(double) { return absl::OkStatus(); }

class SliceBankTest : public ::testing::Test {
 protected:
  SliceBankTest() {
    WriteTinyModelWithTokenizer(temp_ / "model", testing::TinyOptions());
    checkpoint_ = *OpenCheckpoint(temp_ / "model");
    linears_ = *SelectLinears(*checkpoint_, "layers\\.1\\.", "");
    std::vector<std::vector<int32_t>> windows;
    const std::string text = testing::TinyText(kWindows * kTokens);
    for (int64_t w = 0; w < kWindows; ++w) {
      windows.emplace_back(text.begin() + w * kTokens, text.begin() + (w + 1) * kTokens);
    }
    const auto device = *MakeCpuDevice({.num_threads = 2});
    const auto model = *LoadModel(*checkpoint_, *device, {.compute = DType::kF32});
    const auto calibrator = *Calibrator::Create(*model, {windows.begin(), windows.end()});
    EXPECT_TRUE(calibrator->Skip(Ignore).ok());
    statistics_ = *calibrator->Observe(Ignore);
    std::filesystem::create_directory(temp_ / "bank");
  }

  absl::StatusOr<LayerPart> Factor(const std::string& name, const Encoding& encoding,
                                   const Ranks& ranks) {
    ++factored_;
    const Method* method = *FindMethod(name);
    const MethodSettings settings = *MethodSettings::Create(name, method->options, {});
    LayerInput input{.statistics = &statistics_};
    for (const LinearInfo& l : linears_) {
      if (ranks.count(l.name) == 0) continue;
      input.linears.push_back(&l);
      input.budgets[l.name] = {.rank = ranks.at(l.name)};
    }
    return FactorLayer({.checkpoint = checkpoint_.get(),
                        .method = method,
                        .settings = &settings,
                        .encoding = encoding,
                        .block_dtype = DType::kBF16},
                       input);
  }

  SliceBank Bank(const std::string& method, const Encoding& encoding) {
    return SliceBank(
        {.factor = [=, this](int64_t, const Ranks& r) { return Factor(method, encoding, r); },
         .statistics = [this](int64_t) { return statistics_; }},
        {{kUp, 19}, {kQ, 15}}, temp_ / "bank");
  }

  static const FactoredMatrix& Find(const LayerPart& part, const std::string& name) {
    for (const FactoredMatrix& m : part.matrices) {
      if (m.name == name) return m;
    }
    ADD_FAILURE() << name;
    return part.matrices.at(0);
  }

  static std::vector<float> BiasOf(const LayerPart& part, const std::string& name) {
    const FactoredMatrix& m = Find(part, name);
    std::vector<float> bias(m.out_features);
    EXPECT_TRUE(StoredTensorSource(part.tensors)
                    .ReadRows(m.bias_tensor, 0, 1, m.out_features, DType::kF32, bias.data())
                    .ok());
    return bias;
  }

  // Of the cut factors and of those made at that rank: as near as their roundings allow.
  static void ExpectNear(const LayerPart& cut, const LayerPart& made, const std::string& name,
                         double epsilon) {
    const FactoredMatrix &a = Find(cut, name), &b = Find(made, name);
    EXPECT_EQ(a.sorted_leg, b.sorted_leg);
    const Matrix64 product = *DenseProduct(a, StoredTensorSource(cut.tensors));
    const Matrix64 expected = *DenseProduct(b, StoredTensorSource(made.tensors));
    EXPECT_LT(std::sqrt(SquaredNorm(Difference(product, expected)) / SquaredNorm(expected)),
              epsilon);
    EXPECT_EQ(SizeOfStored({&a, 1}, cut.tensors).bits, SizeOfStored({&b, 1}, made.tensors).bits);
  }

  const TempFolder temp_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<LinearInfo> linears_;
  LayerStatistics statistics_;
  int factored_ = 0;
};

TEST_F(SliceBankTest, CutsWhatTheMethodMakesAtEveryRank) {
  for (const char* method : {"svd", "asvd", "svd-llm", "lord", "bolaco"}) {
    SCOPED_TRACE(method);
    std::filesystem::remove_all(temp_ / "bank");
    std::filesystem::create_directory(temp_ / "bank");
    const Encoding f32 = Encoding::Float(DType::kF32);
    SliceBank bank = Bank(method, f32);
    factored_ = 0;
    for (const int64_t rank : {1, 4, 15}) {
      const auto cut = bank.Get(1, {{kUp, rank + 2}, {kQ, rank}});
      ASSERT_TRUE(cut.ok()) << cut.status();
      EXPECT_EQ(factored_, 1) << "once for all ranks";
      const auto made = Factor(method, f32, {{kUp, rank + 2}, {kQ, rank}});
      factored_ = 1;
      // f32 factors, two roundings of a product.
      ExpectNear(*cut, *made, kUp, 1e-6);
      ExpectNear(*cut, *made, kQ, 1e-6);
      if (Find(*made, kQ).bias_tensor.empty()) continue;
      const std::vector<float> bias = BiasOf(*cut, kQ), expected = BiasOf(*made, kQ);
      for (size_t i = 0; i < bias.size(); ++i) EXPECT_NEAR(bias[i], expected[i], 1e-5);
    }
  }
}

// Those that have no sorted slices, or whose slices cannot be parted, are made again.
TEST_F(SliceBankTest, FactorsAgainWhereSlicesDoNotPart) {
  SliceBank blocks = Bank("svd-llm", *ParseEncoding("int8:g16"));
  factored_ = 0;
  const auto cut = blocks.Get(1, {{kQ, 5}});
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(factored_, 2);
  EXPECT_EQ(cut->matrices.size(), 1u);
  const auto made = Factor("svd-llm", *ParseEncoding("int8:g16"), {{kQ, 5}});
  EXPECT_EQ(cut->tensors[0].bytes, made->tensors[0].bytes);
}

TEST_F(SliceBankTest, ReadsWhatAnEarlierRunLeft) {
  const Encoding bf16 = Encoding::Float(DType::kBF16);
  const auto first = Bank("svd", bf16).Get(1, {{kUp, 3}});
  factored_ = 0;
  const auto again = Bank("svd", bf16).Get(1, {{kUp, 3}});
  ASSERT_TRUE(first.ok() && again.ok()) << again.status();
  EXPECT_EQ(factored_, 0);
  ASSERT_EQ(again->tensors.size(), first->tensors.size());
  for (size_t i = 0; i < again->tensors.size(); ++i) {
    EXPECT_EQ(again->tensors[i].bytes, first->tensors[i].bytes);
  }
}

TEST_F(SliceBankTest, SaysWhyItCannotCut) {
  const auto full = *Factor("lord", Encoding::Float(DType::kF32), {{kQ, 6}});
  const auto message = [&](FactoredMatrix m, int64_t rank, const Moments* moments) {
    const auto cut = FirstSlices(m, full.tensors, rank, moments);
    EXPECT_TRUE(absl::IsFailedPrecondition(cut.status())) << cut.status();
    return std::string(cut.status().message());
  };
  const Moments* moments = statistics_.Find(kQ);
  FactoredMatrix m = full.matrices[0];
  EXPECT_THAT(message(m, 7, moments), ::testing::HasSubstr("fewer"));
  EXPECT_THAT(message(m, 3, nullptr), ::testing::HasSubstr("mean input"));
  m.sorted_leg.clear();
  EXPECT_THAT(message(m, 3, moments), ::testing::HasSubstr("not sorted"));
}

}  // namespace
}  // namespace rankine
