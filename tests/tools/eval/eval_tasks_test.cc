// Fidelity, continuations, multiple choice and code tasks on a tiny model, against plain sums. The
// real model's figures are compared with transformers in tests/tools/cli/test_eval.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/loader.h"
#include "models/text.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/eval/choices.h"
#include "tools/eval/code_tasks.h"
#include "tools/eval/fidelity.h"
#include "tools/eval/next_token.h"
#include "tools/eval/sequence_scorer.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::WriteWholeFile;

TEST(Estimate, EqualsNumPy) {
  // x = [0.5, 2, 3.25, 9]: x.mean(), x.std(ddof=1) / 2, np.quantile(x, [0.9, 0.99])
  const Estimate mean = MeanOf({0.5, 2, 3.25, 9});
  EXPECT_DOUBLE_EQ(mean.value, 3.6875);
  EXPECT_NEAR(*mean.standard_error, 1.8579082099680453, 1e-15);
  EXPECT_DOUBLE_EQ(QuantileOf({9, 0.5, 3.25, 2}, 0.9), 7.275);
  EXPECT_DOUBLE_EQ(QuantileOf({9, 0.5, 3.25, 2}, 0.99), 8.8275);
  EXPECT_FALSE(MeanOf({1.0}).standard_error.has_value());
  EXPECT_FALSE(ClusterQuantile({1, 2, 3}, 3, 0.5).standard_error.has_value());
  // Clusters that are alike have no error.
  EXPECT_NEAR(*ClusterQuantile({1, 2, 1, 2}, 2, 0.5).standard_error, 0, 1e-14);
}

class EvalTasksTest : public ::testing::Test {
 protected:
  EvalTasksTest() {
    auto options = testing::TinyOptions();
    WriteTinyModelWithTokenizer(temp_ / "a", options);
    options.seed = 99;
    WriteTinyModelWithTokenizer(temp_ / "b", options);
    device_ = *MakeCpuDevice({.num_threads = 2});
    a_ = Load("a");
    b_ = Load("b");
    checkpoint_ = *OpenCheckpoint(temp_ / "a");
    tokenizer_ = *TokenizerOf(*checkpoint_);
    for (char c : testing::TinyText(1000)) tokens_.push_back(static_cast<unsigned char>(c));
  }

  std::unique_ptr<FactoredModel> Load(const std::string& name) {
    auto checkpoint = OpenCheckpoint(temp_ / name);
    auto model = LoadModel(**checkpoint, *device_, {.compute = DType::kF32});
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  // log softmax of every row of a window, by plain sums.
  static std::vector<std::vector<double>> LogProbabilities(const Model& model,
                                                           absl::Span<const int32_t> window) {
    const auto n = static_cast<int64_t>(window.size());
    auto runner = WindowRunner::Create(model, {.window_tokens = n, .max_logit_rows = n});
    EXPECT_TRUE(runner.ok());
    runner->Begin({window});
    runner->Forward();
    const MatrixView logits = runner->Logits(0, n);
    std::vector<std::vector<double>> result;
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t v = 0; v < logits.cols; ++v) sum += std::exp(double{logits.Row<float>(i)[v]});
      result.emplace_back();
      for (int64_t v = 0; v < logits.cols; ++v) {
        result.back().push_back(logits.Row<float>(i)[v] - std::log(sum));
      }
    }
    return result;
  }

  double LogLikelihood(const std::string& context, const std::string& text) const {
    std::vector<int32_t> tokens;
    for (const char c : context + text) tokens.push_back(static_cast<unsigned char>(c));
    const auto rows = LogProbabilities(*a_, tokens);
    double sum = 0;
    for (size_t i = context.size(); i < tokens.size(); ++i) sum += rows[i - 1][tokens[i]];
    return sum;
  }

  std::string File(const std::string& text) {
    WriteWholeFile(temp_ / "file.jsonl", text);
    return temp_ / "file.jsonl";
  }
  std::string ChoicesError(const std::string& line) {
    return std::string(ReadChoices(File(line)).status().message());
  }

  const TempFolder temp_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<FactoredModel> a_, b_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> tokens_;
};

TEST_F(EvalTasksTest, FidelityEqualsPlainSums) {
  const int64_t context = 50, windows = 20;
  std::vector<double> kl, agree, difference, all;
  for (int64_t w = 0; w < windows; ++w) {
    const auto window = absl::MakeConstSpan(tokens_).subspan(w * context, context);
    const auto q = LogProbabilities(*a_, window), p = LogProbabilities(*b_, window);
    double kl_sum = 0, agree_sum = 0, difference_sum = 0;
    for (int64_t i = 0; i + 1 < context; ++i) {
      double divergence = 0;
      for (size_t v = 0; v < p[i].size(); ++v) {
        divergence += std::exp(p[i][v]) * (p[i][v] - q[i][v]);
      }
      all.push_back(divergence);
      kl_sum += divergence;
      agree_sum += std::max_element(p[i].begin(), p[i].end()) - p[i].begin() ==
                   std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
      difference_sum += p[i][window[i + 1]] - q[i][window[i + 1]];
    }
    kl.push_back(kl_sum / (context - 1));
    agree.push_back(agree_sum / (context - 1));
    difference.push_back(difference_sum / (context - 1));
  }
  const auto result = CompareWithDense(*a_, *b_, tokens_, {.context = context});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->kl.value, MeanOf(kl).value, 1e-12);
  EXPECT_NEAR(*result->kl.standard_error, *MeanOf(kl).standard_error, 1e-12);
  EXPECT_NEAR(result->kl_p99.value, QuantileOf(all, 0.99), 1e-12);
  EXPECT_NEAR(result->top1.value, MeanOf(agree).value, 1e-15);
  EXPECT_NEAR(result->log_perplexity_difference.value, MeanOf(difference).value, 1e-12);
  EXPECT_NEAR(*result->log_perplexity_difference.standard_error, *MeanOf(difference).standard_error,
              1e-12);
  EXPECT_EQ(result->tokens, windows * (context - 1));
  const auto alone = Perplexity(*a_, tokens_, {.context = context});
  EXPECT_NEAR(result->perplexity, alone->perplexity, 1e-12 * alone->perplexity);
}

TEST_F(EvalTasksTest, AModelAgreesWithItself) {
  const auto result = CompareWithDense(*a_, *a_, tokens_, {.context = 40, .max_windows = 3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->kl_max, 1e-14);
  EXPECT_EQ(result->top1.value, 1);
  EXPECT_EQ(result->log_perplexity_difference.value, 0);
}

// Layers run are counted; everything is the wrapped model's.
class CountingModel : public Model {
 public:
  explicit CountingModel(const Model& model) : model_(model) {}
  const ModelShape& shape() const override { return model_.shape(); }
  Device& device() const override { return model_.device(); }
  absl::StatusOr<std::unique_ptr<Workspace>> NewWorkspace(const ForwardLimits& l) const override {
    return model_.NewWorkspace(l);
  }
  void Embed(const BatchInput& batch, Workspace& ws) const override { model_.Embed(batch, ws); }
  void Layer(int64_t layer, const BatchInput& batch, const KvCache* cache, Workspace& ws,
             ActivationObserver* observer) const override {
    ++layers_run;
    model_.Layer(layer, batch, cache, ws, observer);
  }
  MatrixView Head(const BatchInput& batch, Workspace& ws) const override {
    return model_.Head(batch, ws);
  }
  int64_t weight_bytes() const override { return model_.weight_bytes(); }
  int64_t weight_bytes_per_token() const override { return model_.weight_bytes_per_token(); }
  int64_t operations_per_token() const override { return model_.operations_per_token(); }

  mutable int64_t layers_run = 0;

 private:
  const Model& model_;
};

TEST_F(EvalTasksTest, FidelityRunsTheDenseLayersOnceForManyModels) {
  const CountingModel dense(*b_);
  const PerplexityOptions options{.context = 200};  // two windows a pass, five windows
  const auto alone = CompareWithDense(*a_, *b_, tokens_, options);
  ASSERT_TRUE(alone.ok()) << alone.status();
  const int64_t passes = 3, layers = b_->shape().num_layers;
  const int64_t pass_bytes = 400 * b_->shape().hidden_size * 4;
  // All passes kept, then the first only.
  for (const auto& [max_bytes, kept] :
       {std::pair<int64_t, int64_t>{1 << 30, 3}, {pass_bytes * 3 / 2, 1}}) {
    PassStates states(max_bytes);
    for (const int64_t run : {passes, passes - kept, passes - kept}) {
      dense.layers_run = 0;
      const auto result = CompareWithDense(*a_, dense, tokens_, options, {}, &states);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(dense.layers_run, run * layers) << kept;
      EXPECT_LE(states.bytes(), max_bytes);
      EXPECT_EQ(result->kl.value, alone->kl.value);
      EXPECT_EQ(result->kl_max, alone->kl_max);
      EXPECT_EQ(result->dense_perplexity, alone->dense_perplexity);
      EXPECT_EQ(result->perplexity, alone->perplexity);
    }
  }
}

TEST_F(EvalTasksTest, RefusesAnotherVocabulary) {
  auto options = testing::TinyOptions();
  options.vocab += 3;
  testing::WriteTinyLlama(temp_ / "c", options);
  EXPECT_THAT(std::string(CompareWithDense(*a_, *Load("c"), tokens_, {}).status().message()),
              HasSubstr("vocabularies"));
}

TEST_F(EvalTasksTest, ScoresDoNotDependOnWhoElseIsScored) {
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"a", "bcd"}, {"some context", " and more"}, {"x", std::string(150, 'y')}, {"q", "r"}};
  std::vector<Continuation> sequences;
  for (const auto& [context, text] : pairs) {
    sequences.push_back(*EncodeContinuation(*tokenizer_, context, text));
  }
  const auto together = ScoreContinuations(*a_, sequences, DType::kF32);
  ASSERT_TRUE(together.ok()) << together.status();
  for (size_t i = 0; i < pairs.size(); ++i) {
    const double expected = LogLikelihood(pairs[i].first, pairs[i].second);
    EXPECT_NEAR((*together)[i].log_likelihood, expected, 1e-11 * std::abs(expected)) << i;
    EXPECT_EQ((*together)[i].tokens, static_cast<int64_t>(pairs[i].second.size()));
    const auto alone = ScoreContinuations(*a_, {sequences[i]}, DType::kF32);
    EXPECT_EQ((*alone)[0].log_likelihood, (*together)[i].log_likelihood);
  }
}

TEST_F(EvalTasksTest, SpacesAtTheEndOfTheContextBelongToTheText) {
  const auto sequence = EncodeContinuation(*tokenizer_, "ab  ", "c");
  ASSERT_TRUE(sequence.ok());
  EXPECT_EQ(sequence->first, 2);
  EXPECT_EQ(sequence->tokens.size(), 5u);
  EXPECT_THAT(std::string(EncodeContinuation(*tokenizer_, "", "c").status().message()),
              HasSubstr("no tokens"));
  EXPECT_THAT(std::string(EncodeContinuation(*tokenizer_, "a", "").status().message()),
              HasSubstr("adds no tokens"));
}

TEST_F(EvalTasksTest, RefusesSequencesThatDoNotFit) {
  const Continuation too_long{.tokens = std::vector<int32_t>(300, 5)};
  EXPECT_THAT(std::string(ScoreContinuations(*a_, {too_long}, DType::kF32).status().message()),
              AllOf(HasSubstr("300"), HasSubstr("256")));
  const Continuation first{.tokens = {1, 2}, .first = 0};
  EXPECT_THAT(std::string(ScoreContinuations(*a_, {first}, DType::kF32).status().message()),
              HasSubstr("nothing before it"));
}

TEST_F(EvalTasksTest, ChoicesTakeTheMostLikely) {
  std::vector<ChoiceQuestion> questions;
  std::vector<double> right, normalised;
  for (int i = 0; i < 12; ++i) {
    ChoiceQuestion question{.context = "question " + std::to_string(i),
                            .choices = {" yes", " no, " + std::to_string(i), " it may be"},
                            .answer = i % 3};
    size_t best = 0, best_normalised = 0;
    std::vector<double> sums;
    for (const auto& choice : question.choices) {
      sums.push_back(LogLikelihood(question.context, choice));
    }
    for (size_t c = 1; c < 3; ++c) {
      const auto norm = [&](size_t k) { return sums[k] / question.choices[k].size(); };
      if (sums[c] > sums[best]) best = c;
      if (norm(c) > norm(best_normalised)) best_normalised = c;
    }
    right.push_back(best == static_cast<size_t>(question.answer));
    normalised.push_back(best_normalised == static_cast<size_t>(question.answer));
    questions.push_back(question);
  }
  const auto result = EvaluateChoices(*a_, *tokenizer_, questions, DType::kF32);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->accuracy.value, MeanOf(right).value);
  EXPECT_EQ(result->accuracy.standard_error, MeanOf(right).standard_error);
  EXPECT_EQ(result->normalised_accuracy.value, MeanOf(normalised).value);
  EXPECT_EQ(result->questions, 12);
}

TEST_F(EvalTasksTest, ReadsChoicesAndNamesWhatIsWrong) {
  const auto questions = ReadChoices(
      File("{\"context\": \"a\", \"choices\": [\" b\", \" c\"], \"answer\": 1, \"id\": 7}\n\n"));
  ASSERT_TRUE(questions.ok()) << questions.status();
  EXPECT_EQ((*questions)[0].choices[1], " c");
  EXPECT_EQ((*questions)[0].answer, 1);
  const std::string good = "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n";
  EXPECT_THAT(ChoicesError(good + "nonsense"), HasSubstr("file.jsonl:2"));
  EXPECT_THAT(ChoicesError("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}"),
              AllOf(HasSubstr("answer"), HasSubstr("none of the 2")));
  EXPECT_THAT(ChoicesError("{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}"),
              HasSubstr("at least two"));
  EXPECT_THAT(ChoicesError("{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}"),
              HasSubstr("empty"));
  EXPECT_THAT(ChoicesError("{\"question\": \"a\"}"), HasSubstr("question"));
  EXPECT_THAT(ChoicesError("{\"choices\": [\"b\", \"c\"], \"answer\": 0}"), HasSubstr("context"));
  EXPECT_THAT(ChoicesError("[1]"), HasSubstr("object"));
  EXPECT_THAT(ChoicesError("\n"), HasSubstr("no lines"));
  EXPECT_THAT(std::string(ReadChoices(temp_ / "no").status().message()), HasSubstr("no"));
}

CodeTask Square() {
  return {.id = "t/0",
          .prompt = "def square(x):\n",
          .canonical_solution = "    return x * x\n",
          .test = "def check(candidate):\n    assert candidate(3) == 9\n",
          .entry_point = "square"};
}

TEST_F(EvalTasksTest, ScoresCanonicalSolutions) {
  CodeTask other = Square();
  other.canonical_solution = "    return x ** 2\n";
  const auto result = ScoreSolutions(*a_, *tokenizer_, {Square(), other}, DType::kF32);
  ASSERT_TRUE(result.ok()) << result.status();
  // The tokens of this tokenizer are bytes.
  std::vector<double> losses;
  for (const CodeTask& task : {Square(), other}) {
    losses.push_back(-LogLikelihood(task.prompt, task.canonical_solution) /
                     static_cast<double>(task.canonical_solution.size()));
  }
  EXPECT_NEAR(result->loss.value, MeanOf(losses).value, 1e-11);
  EXPECT_NEAR(*result->loss.standard_error, *MeanOf(losses).standard_error, 1e-11);
  EXPECT_NEAR(result->bits_per_byte.value, MeanOf(losses).value / std::log(2), 1e-11);
  EXPECT_EQ(result->tasks, 2);
}

TEST_F(EvalTasksTest, RunsCompletionsAgainstTheirTests) {
  const auto result = RunCompletions(
      {Square(), Square(), Square()},
      {"    return x * x", "    return x + x", "    while True: pass"}, {.seconds = 1});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->passed, std::vector<bool>({true, false, false}));
  EXPECT_EQ(result->timed_out, 1);
  EXPECT_EQ(result->pass.value, MeanOf({1, 0, 0}).value);
}

TEST_F(EvalTasksTest, CodeTasksNameWhatIsWrong) {
  const auto message = [&](const std::string& line) {
    return std::string(ReadCodeTasks(File(line)).status().message());
  };
  EXPECT_THAT(message("{\"task_id\": \"a\"}"),
              AllOf(HasSubstr("file.jsonl:1"), HasSubstr("prompt")));
  EXPECT_THAT(message("{\"task_id\": 3}"), HasSubstr("task_id"));
  EXPECT_THAT(message("{\"task_id\": \"\"}"), HasSubstr("empty"));
}

}  // namespace
}  // namespace rankine
