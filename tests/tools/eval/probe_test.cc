#include "tools/eval/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Fits of scikit-learn (tests/testing/generators/probe_goldens.py).
struct Golden {
  std::vector<std::vector<float>> x;
  std::vector<int64_t> y, predictions;
  std::vector<std::vector<double>> weights;
  std::vector<double> intercepts;
  double c = 0;
  int64_t classes = 0;
};

std::vector<Golden> Goldens() {
  std::ifstream file(std::string(RANKINE_TEST_DATA) + "/eval/probe.json");
  std::vector<Golden> goldens;
  for (const auto& g : nlohmann::json::parse(file)) {
    goldens.push_back({.x = g["x"].get<std::vector<std::vector<float>>>(),
                       .y = g["y"].get<std::vector<int64_t>>(),
                       .predictions = g["predictions"].get<std::vector<int64_t>>(),
                       .weights = g["weights"].get<std::vector<std::vector<double>>>(),
                       .intercepts = g["intercepts"].get<std::vector<double>>(),
                       .c = g["c"],
                       .classes = g["classes"]});
  }
  return goldens;
}

std::vector<const float*> Rows(const std::vector<std::vector<float>>& x) {
  std::vector<const float*> rows;
  for (const auto& row : x) rows.push_back(row.data());
  return rows;
}

// The objective is strongly convex in the weights with modulus 1 / (C n) after division by C n: a
// gradient of at most g per entry leaves them within C n g sqrt(entries) of the minimum.
TEST(LogisticRegression, EqualsScikitLearn) {
  const std::vector<Golden> goldens = Goldens();
  ASSERT_EQ(goldens.size(), 4u);
  for (const Golden& g : goldens) {
    const auto features = static_cast<int64_t>(g.x[0].size());
    const LogisticOptions options{.c = g.c, .tolerance = 1e-8};
    const auto model = FitLogistic(Rows(g.x), features, g.y, g.classes, options);
    ASSERT_TRUE(model.ok()) << model.status();
    const double entries = static_cast<double>(features * g.classes);
    // The golden's own gradient is of the same size.
    const double tolerance =
        2 * g.c * static_cast<double>(g.x.size()) * options.tolerance * std::sqrt(entries) + 1e-6;
    ASSERT_EQ(model->intercepts.size(), g.intercepts.size());
    for (size_t k = 0; k < g.weights.size(); ++k) {
      for (int64_t j = 0; j < features; ++j) {
        ASSERT_NEAR(model->weights[k * features + j], g.weights[k][j], tolerance) << k << " " << j;
      }
      // Intercepts of several classes are known up to a constant.
      EXPECT_NEAR(model->intercepts[k] - (g.classes > 2 ? model->intercepts[0] : 0),
                  g.intercepts[k] - (g.classes > 2 ? g.intercepts[0] : 0), 1e-4);
    }
    for (size_t i = 0; i < g.x.size(); ++i)
      EXPECT_EQ(model->Predict(g.x[i].data()), g.predictions[i]) << i;
  }
}

TEST(LogisticRegression, RefusesBadInput) {
  const std::vector<std::vector<float>> x = {{0.f}, {1.f}};
  const auto error = [&](const std::vector<int64_t>& y, int64_t classes, double c) {
    return std::string(FitLogistic(Rows(x), 1, y, classes, {.c = c}).status().message());
  };
  EXPECT_THAT(error({0, 0}, 1, 1), HasSubstr("1 classes"));
  EXPECT_THAT(error({0}, 2, 1), HasSubstr("1 labels"));
  EXPECT_THAT(error({0, 2}, 2, 1), HasSubstr("example 1 has the label 2"));
  EXPECT_THAT(error({0, 1}, 2, 0), HasSubstr("C must be positive"));
  EXPECT_THAT(error({0, 1}, 2, NAN), HasSubstr("C must be positive"));
  const std::vector<std::vector<float>> bad = {{0.f}, {NAN}};
  EXPECT_THAT(std::string(FitLogistic(Rows(bad), 1, {0, 1}, 2, {}).status().message()),
              HasSubstr("not finite"));
  const auto unfinished = FitLogistic(Rows(x), 1, {0, 1}, 2, {.max_iterations = 1});
  EXPECT_EQ(unfinished.status().code(), absl::StatusCode::kInternal);
}

LabelledTexts SomeTexts(int64_t per_label) {
  LabelledTexts data{.label_names = {"a", "b", "c"}};
  for (int64_t i = 0; i < 3 * per_label; ++i) {
    data.texts.push_back(absl::StrCat("text ", i));
    data.labels.push_back(i % 3);
  }
  return data;
}

// Two features that tell the labels apart, unless `noise` hides them.
Embeddings SomeEmbeddings(const LabelledTexts& data, float noise) {
  Embeddings e{.count = static_cast<int64_t>(data.texts.size()), .dim = 2};
  for (int64_t i = 0; i < e.count; ++i) {
    const double angle = 2 * M_PI * static_cast<double>(data.labels[i]) / 3;
    const double other = 2.39996 * static_cast<double>(i);  // spread over the circle
    e.values.push_back(static_cast<float>(std::cos(angle)) +
                       noise * static_cast<float>(std::cos(other)));
    e.values.push_back(static_cast<float>(std::sin(angle)) +
                       noise * static_cast<float>(std::sin(other)));
  }
  return e;
}

TEST(Probe, FoldsAreStratifiedAndEven) {
  const LabelledTexts data = SomeTexts(11);
  const auto folds = StratifiedFolds(data, 5, 0);
  ASSERT_TRUE(folds.ok()) << folds.status();
  std::vector<int64_t> size(5);
  for (size_t label = 0; label < 3; ++label) {
    std::vector<int64_t> of_label(5);
    for (size_t i = 0; i < folds->size(); ++i) {
      if (data.labels[i] == static_cast<int64_t>(label)) ++of_label[(*folds)[i]];
    }
    for (int64_t f = 0; f < 5; ++f) {
      EXPECT_GE(of_label[f], 2);
      EXPECT_LE(of_label[f], 3);
      size[f] += of_label[f];
    }
  }
  for (int64_t f = 0; f < 5; ++f) EXPECT_NEAR(size[f], 33.0 / 5, 1);
  EXPECT_EQ(*StratifiedFolds(data, 5, 0), *folds);
  EXPECT_NE(*StratifiedFolds(data, 5, 1), *folds);
  EXPECT_THAT(std::string(StratifiedFolds(data, 12, 0).status().message()),
              HasSubstr("label 'a' has 11 texts"));
  EXPECT_FALSE(StratifiedFolds(data, 1, 0).ok());
}

TEST(Probe, ReadsWhatEmbeddingsTell) {
  const LabelledTexts data = SomeTexts(20);
  const auto clear = CrossValidate(data, SomeEmbeddings(data, 0.3f), {});
  ASSERT_TRUE(clear.ok()) << clear.status();
  EXPECT_EQ(clear->accuracy, 1.0);
  EXPECT_EQ(clear->standard_error, 0.0);
  const auto blurred = CrossValidate(data, SomeEmbeddings(data, 3.0f), {});
  ASSERT_TRUE(blurred.ok());
  EXPECT_LT(blurred->accuracy, 0.9);
  const double p = blurred->accuracy;
  EXPECT_DOUBLE_EQ(blurred->standard_error, std::sqrt(p * (1 - p) / 60));
  const PairedDifference difference = ComparePredictions(*blurred, *clear);
  EXPECT_DOUBLE_EQ(difference.mean, p - 1);
  EXPECT_NEAR(difference.standard_error, std::sqrt(p * (1 - p) / 60), 1e-12);
}

// Labels are matched by name: the test file may lack some and number them otherwise.
TEST(Probe, TrainsOnOneFileAndTestsOnAnother) {
  const LabelledTexts train = SomeTexts(20);
  LabelledTexts test{.texts = {"x", "y"}, .labels = {0, 1}, .label_names = {"b", "c"}};
  const Embeddings x = SomeEmbeddings(train, 0.1f);
  Embeddings y{.count = 2, .dim = 2};
  for (int64_t i = 0; i < 4; ++i) y.values.push_back(x.Row(1)[i]);  // of labels b and c
  const auto result = TrainAndTest(train, x, test, y, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->correct, ElementsAre(true, true));
  test.label_names[1] = "z";
  EXPECT_THAT(std::string(TrainAndTest(train, x, test, y, {}).status().message()),
              HasSubstr("label 'z'"));
}

TEST(Probe, ComparesEmbeddings) {
  const Embeddings a{.count = 2, .dim = 2, .values = {1, 0, 3, 4}};
  const Embeddings b{.count = 2, .dim = 2, .values = {2, 0, 4, 3}};
  const auto cosine = CompareEmbeddings(a, b);
  ASSERT_TRUE(cosine.ok());
  EXPECT_DOUBLE_EQ(cosine->mean, (1 + 24.0 / 25) / 2);
  EXPECT_DOUBLE_EQ(cosine->min, 24.0 / 25);
  EXPECT_FALSE(CompareEmbeddings(a, {.count = 2, .dim = 1, .values = {1, 1}}).ok());
}

TEST(LabelledTextsTest, ReadsLinesAndRefusesBadOnes) {
  testing::TempFolder temp;
  const std::string path = temp / "x.tsv";
  testing::WriteWholeFile(path, "one\ttab in text\tpos\r\n\ntwo\tneg\nthree\tpos");
  const auto data = ReadLabelledTexts(path);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_THAT(data->texts, ElementsAre("one\ttab in text", "two", "three"));
  EXPECT_THAT(data->label_names, ElementsAre("neg", "pos"));
  EXPECT_THAT(data->labels, ElementsAre(1, 0, 1));
  testing::WriteWholeFile(path, "one\tpos\ntwo\n");
  EXPECT_THAT(std::string(ReadLabelledTexts(path).status().message()),
              HasSubstr("line 2 has no label"));
  testing::WriteWholeFile(path, "one\tpos\ntwo\tpos\n");
  EXPECT_THAT(std::string(ReadLabelledTexts(path).status().message()),
              HasSubstr("1 different labels"));
  EXPECT_EQ(ReadLabelledTexts(temp / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rankine
