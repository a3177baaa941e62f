#include "tools/compress/factorize.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/checkpoint.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/linears.h"
#include "tools/compress/work_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using testing::Files;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

class FactorizeTest : public ::testing::Test {
 protected:
  FactorizeTest() {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    WriteWholeFile(text_, testing::TinyText(4000));
  }

  FactorizeOptions Options(const std::string& method) const {
    FactorizeOptions o{.method = method, .keep = 0.6};
    if (method != "svd") o.calibration_files = {text_};
    o.calibration_windows = 20;
    o.window = 64;
    o.threads = 2;
    return o;
  }

  std::string Error(const FactorizeOptions& options) const {
    const auto report = Factorize(model_, temp_ / "error", options);
    EXPECT_FALSE(report.ok());
    EXPECT_FALSE(fs::exists(temp_ / "error"));
    return std::string(report.status().message());
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
  const std::string text_ = temp_ / "calibration.txt";
};

std::vector<double> ReadTensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* tensor = checkpoint.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  const bool matrix = tensor->shape.size() == 2;
  std::vector<float> values(tensor->shape[0] * (matrix ? tensor->shape[1] : 1));
  EXPECT_TRUE(
      checkpoint.ReadRows(*tensor, 0, matrix ? tensor->shape[0] : 1, DType::kF32, values.data())
          .ok());
  return {values.begin(), values.end()};
}

// U diag(S) V of a written model.
Matrix64 StoredProduct(const Checkpoint& checkpoint, const LayerReport& layer, int64_t m,
                       int64_t n) {
  SvdFactors f{Matrix64(m, layer.rank), {}, Matrix64(layer.rank, n)};
  f.u.values = ReadTensor(checkpoint, layer.name + ".U");
  f.s = ReadTensor(checkpoint, layer.name + ".S");
  f.v.values = ReadTensor(checkpoint, layer.name + ".V");
  return ProductOf(f);
}

TEST_F(FactorizeTest, SvdWritesAModelThatIsWhatTheReportSays) {
  const auto report = Factorize(model_, temp_ / "out", Options("svd"));
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->layers.size(), 3u * 7);
  const auto source = OpenCheckpoint(model_), out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(source.ok() && out.ok()) << out.status();
  EXPECT_EQ((*out)->factored().size(), report->layers.size());
  const auto linears = SelectLinears(**source, "", "");
  ASSERT_TRUE(linears.ok());
  for (size_t i = 0; i < linears->size(); ++i) {
    const LinearInfo& linear = (*linears)[i];
    const LayerReport& layer = report->layers[i];
    SCOPED_TRACE(layer.name);
    EXPECT_EQ(layer.name, linear.name);
    EXPECT_FALSE(layer.weighted_error.has_value());
    const int64_t m = linear.out_features(), n = linear.in_features();
    EXPECT_LE(layer.rank * (m + n), 0.6 * m * n);
    const Matrix64 w = *ReadWeight(**source, linear);
    const Matrix64 error = Difference(w, StoredProduct(**out, layer, m, n));
    EXPECT_NEAR(layer.relative_error, std::sqrt(SquaredNorm(error) / SquaredNorm(w)), 1e-12);
    EXPECT_EQ((*out)->Find(layer.name + ".weight"), nullptr) << "the dense copy must be gone";
  }
  EXPECT_LE(report->parameters_kept, 0.6);
  EXPECT_GT(report->parameters_kept, 0.5);
  EXPECT_FALSE(fs::exists(WorkFolder::PathOf(temp_ / "out")));
}

TEST_F(FactorizeTest, WhatIsNotFactoredIsCopied) {
  FactorizeOptions options = Options("svd");
  options.only_regex = "mlp";
  options.skip_regex = "down_proj|layers\\.1\\.";
  const auto report = Factorize(model_, temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers.size(), 4u);  // gate and up of layers 0 and 2
  const auto source = OpenCheckpoint(model_), out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  int copied = 0;
  for (const TensorInfo& t : (*source)->tensors()) {
    if ((*out)->Find(t.name) == nullptr) continue;
    EXPECT_EQ((*out)->Find(t.name)->stored_type, t.stored_type);
    EXPECT_EQ(ReadTensor(**out, t.name), ReadTensor(**source, t.name)) << t.name;
    ++copied;
  }
  EXPECT_EQ(copied, static_cast<int>((*source)->tensors().size()) - 4);
  EXPECT_EQ(ReadWholeFile(temp_ / "out/tokenizer.json"), ReadWholeFile(model_ + "/tokenizer.json"));
}

TEST_F(FactorizeTest, KeepOneStaysDense) {
  FactorizeOptions options = Options("svd");
  options.keep = 1;
  const auto report = Factorize(model_, temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->parameters_kept, 1);
  for (const LayerReport& layer : report->layers) EXPECT_EQ(layer.rank, 0);
  EXPECT_TRUE((*OpenCheckpoint(temp_ / "out"))->factored().empty());
}

TEST_F(FactorizeTest, SvdLlmIsBetterOnTheTextAndSvdOnTheWeights) {
  FactorizeOptions whitened = Options("svd-llm"), plain = Options("svd");
  plain.calibration_files = {text_};
  whitened.factor_encoding = plain.factor_encoding = Encoding::Float(DType::kF32);
  const auto a = Factorize(model_, temp_ / "a", whitened);
  const auto b = Factorize(model_, temp_ / "b", plain);
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  for (size_t i = 0; i < a->layers.size(); ++i) {
    ASSERT_TRUE(a->layers[i].weighted_error && b->layers[i].weighted_error);
    // The slack is the rounding of the factors to f32.
    EXPECT_LE(*a->layers[i].weighted_error, *b->layers[i].weighted_error + 1e-6);
    EXPECT_LE(b->layers[i].relative_error, a->layers[i].relative_error + 1e-6);
    EXPECT_EQ(a->layers[i].rank, b->layers[i].rank);
  }
  EXPECT_LT(*a->layers[3].weighted_error, *b->layers[3].weighted_error);
}

// Runs Factorize in a process of its own that dies by SIGKILL at the given call of the callback.
// True when it got through.
bool RunAndDieAt(int call, const std::string& model, const std::string& out,
                 const FactorizeOptions& options) {
  const pid_t child = fork();
  if (child == 0) {
    int calls = 0;
    const auto report = Factorize(model, out, options, [&](const Progress&) {
      if (calls++ == call) raise(SIGKILL);
      return true;
    });
    _exit(report.ok() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFEXITED(status);
}

TEST_F(FactorizeTest, GoesOnAfterAKillAtAnyPointWithTheSameBytes) {
  for (const char* method : {"svd", "svd-llm"}) {
    const FactorizeOptions options = Options(method);
    const std::string whole = temp_ / (std::string("whole-") + method);
    std::vector<std::string> calls;
    double last = 0;
    const auto report = Factorize(model_, whole, options, [&](const Progress& p) {
      EXPECT_GE(p.fraction, last);
      EXPECT_LE(p.fraction, 1.0);
      last = p.fraction;
      calls.push_back(p.text);
      return true;
    });
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_DOUBLE_EQ(last, 1.0);
    const auto expected = Files(whole);
    ASSERT_GT(calls.size(), 8u);
    for (size_t k = 0; k < calls.size(); ++k) {
      // Of the many calls between tensors as they are written, some and the last.
      if (calls[k].find("writing") != std::string::npos && k % 20 != 0 && k + 1 != calls.size()) {
        continue;
      }
      SCOPED_TRACE(k);
      const std::string out = temp_ / "resumed";
      EXPECT_FALSE(RunAndDieAt(static_cast<int>(k), model_, out, options));
      const auto resumed = Factorize(model_, out, options);
      ASSERT_TRUE(resumed.ok()) << resumed.status();
      EXPECT_EQ(Files(out), expected);
      ASSERT_EQ(resumed->layers.size(), report->layers.size());
      EXPECT_EQ(resumed->layers[5].relative_error, report->layers[5].relative_error);
      fs::remove_all(out);
      for (const auto& entry : fs::directory_iterator(temp_.path())) {
        EXPECT_NE(entry.path().stem(), "resumed") << "left over: " << entry.path();
      }
    }
  }
}

// Between the rename that makes OUT appear and the removal of the working folder.
TEST_F(FactorizeTest, AKillAfterTheLastRenameIsNoticed) {
  const FactorizeOptions options = Options("svd");
  const std::string out = temp_ / "out", whole = temp_ / "whole";
  const auto report = Factorize(model_, whole, options);
  ASSERT_TRUE(report.ok());
  const auto stop = [](const Progress& p) { return p.text.find("writing") == std::string::npos; };
  ASSERT_FALSE(Factorize(model_, out, options, stop).ok());
  fs::copy(whole, out);
  const auto again = Factorize(model_, out, options);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->parameters_kept, report->parameters_kept);
  EXPECT_EQ(Files(out), Files(whole));
  EXPECT_FALSE(fs::exists(WorkFolder::PathOf(out)));
  // But what is at OUT and is something else stays.
  ASSERT_FALSE(Factorize(model_, temp_ / "other", options, stop).ok());
  fs::create_directory(temp_ / "other");
  EXPECT_EQ(Factorize(model_, temp_ / "other", options).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(FactorizeTest, StopsWhenToldAndGoesOn) {
  const FactorizeOptions options = Options("svd");
  ASSERT_TRUE(Factorize(model_, temp_ / "whole", options).ok());
  const std::string out = temp_ / "out";
  int rounds = 0;
  for (; rounds < 20; ++rounds) {
    // Each round is stopped after one more layer.
    const auto report = Factorize(model_, out, options, [&](const Progress& p) {
      return p.text.find("done") == std::string::npos;
    });
    if (report.ok()) break;
    EXPECT_EQ(report.status().code(), absl::StatusCode::kCancelled);
    EXPECT_FALSE(fs::exists(out));
  }
  EXPECT_EQ(rounds, 3);
  EXPECT_EQ(Files(out), Files(temp_ / "whole"));
}

TEST_F(FactorizeTest, DamagedPartsAreMadeAgain) {
  const FactorizeOptions options = Options("svd");
  ASSERT_TRUE(Factorize(model_, temp_ / "whole", options).ok());
  const std::string out = temp_ / "out";
  EXPECT_FALSE(Factorize(model_, out, options, [&](const Progress& p) {
                 return p.text.find("writing") == std::string::npos;
               }).ok());
  const std::string part = WorkFolder::PathOf(out) + "/layer_00001.part";
  std::string bytes = ReadWholeFile(part);
  bytes[bytes.size() / 2] ^= 4;
  WriteWholeFile(part, bytes);
  ASSERT_TRUE(Factorize(model_, out, options).ok());
  EXPECT_EQ(Files(out), Files(temp_ / "whole"));
}

TEST_F(FactorizeTest, RefusesAnotherRunsFolder) {
  const std::string out = temp_ / "out";
  const FactorizeOptions options = Options("svd");
  const auto stop = [](const Progress& p) { return p.text.find("done") == std::string::npos; };
  EXPECT_FALSE(Factorize(model_, out, options, stop).ok());
  FactorizeOptions other = options;
  other.keep = 0.5;
  const auto report = Factorize(model_, out, other);
  EXPECT_EQ(report.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr(WorkFolder::PathOf(out)), HasSubstr("another keep")));
  EXPECT_TRUE(Factorize(model_, out, options).ok());
  EXPECT_EQ(Factorize(model_, out, options).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(FactorizeTest, OneRunAtATime) {
  const std::string out = temp_ / "out";
  bool tried = false;
  ASSERT_TRUE(Factorize(model_, out, Options("svd"), [&](const Progress& p) {
                if (p.text.find("factoring") == std::string::npos || tried) return true;
                tried = true;
                const auto second = Factorize(model_, out, Options("svd"));
                EXPECT_THAT(std::string(second.status().message()), HasSubstr("another run"));
                return true;
              }).ok());
  EXPECT_TRUE(tried);
}

TEST_F(FactorizeTest, SharesStatisticsBetweenRuns) {
  FactorizeOptions options = Options("svd-llm");
  ASSERT_TRUE(Factorize(model_, temp_ / "alone", options).ok());
  options.statistics_folder = temp_ / "statistics";
  options.keep = 0.4;
  ASSERT_TRUE(Factorize(model_, temp_ / "first", options).ok());
  const auto statistics = Files(options.statistics_folder);
  EXPECT_EQ(statistics.size(), 4u);  // three layers, and what they are of
  options.keep = 0.6;
  int calibrating = 0;
  ASSERT_TRUE(Factorize(model_, temp_ / "second", options, [&](const Progress& p) {
                calibrating += p.text.find("calibrating") != std::string::npos;
                return true;
              }).ok());
  EXPECT_EQ(calibrating, 0) << "the model must not be run again";
  EXPECT_EQ(Files(temp_ / "second"), Files(temp_ / "alone"));
  EXPECT_EQ(Files(options.statistics_folder), statistics);

  WriteWholeFile(text_, testing::TinyText(4000, 8));
  EXPECT_THAT(Error(options), HasSubstr("another calibration text"));
  fs::remove_all(WorkFolder::PathOf(temp_ / "error"));
  // A damaged file is made again, but only from the right text.
  WriteWholeFile(text_, testing::TinyText(4000));
  WriteWholeFile(options.statistics_folder + "/layer_00001.statistics", "damaged");
  ASSERT_TRUE(Factorize(model_, temp_ / "third", options).ok());
  EXPECT_EQ(Files(temp_ / "third"), Files(temp_ / "alone"));
  EXPECT_EQ(Files(options.statistics_folder), statistics);
}

TEST_F(FactorizeTest, RefusesBadOptions) {
  FactorizeOptions o = Options("svd");
  for (double keep : {0.0, -0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    o.keep = keep;
    EXPECT_THAT(Error(o), HasSubstr("keep")) << keep;
  }
  o = Options("svd");
  o.only_regex = "(";
  EXPECT_THAT(Error(o), AllOf(HasSubstr("--only"), HasSubstr("not a regular expression")));
  o = Options("svd");
  o.skip_regex = "[";
  EXPECT_THAT(Error(o), HasSubstr("--skip"));
  o = Options("svd");
  o.only_regex = "lm_head|embed_tokens";
  EXPECT_THAT(Error(o), HasSubstr("no linear is selected"));
  EXPECT_THAT(Error(Options("nonsense")), HasSubstr("svd-llm"));
  o = Options("svd-llm");
  o.calibration_files.clear();
  EXPECT_THAT(Error(o), HasSubstr("--calibration"));
  o = Options("svd");
  o.statistics_folder = temp_ / "s";
  EXPECT_THAT(Error(o), HasSubstr("rankine calibrate"));
}

TEST_F(FactorizeTest, AllocatesByLossWithinTheBudget) {
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

TEST_F(FactorizeTest, BudgetsOfBitsAndBytesAreKept) {
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

TEST_F(FactorizeTest, RefusesBudgetsThatDoNotFit) {
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

TEST_F(FactorizeTest, RefusesTooLittleText) {
  WriteWholeFile(text_, testing::TinyText(100));
  EXPECT_THAT(Error(Options("svd-llm")),
              AllOf(HasSubstr("100 tokens"), HasSubstr("20 are needed")));
  FactorizeOptions o = Options("svd-llm");
  o.calibration_files = {temp_ / "missing.txt"};
  EXPECT_THAT(Error(o), HasSubstr("missing.txt"));
  o = Options("svd-llm");
  o.window = 1000;  // the tiny model's context is 256
  o.calibration_windows = 1;
  WriteWholeFile(text_, testing::TinyText(2000));
  EXPECT_THAT(Error(o), HasSubstr("context"));
}

TEST_F(FactorizeTest, RefusesWeightsThatAreNotFinite) {
  std::string bytes = ReadWholeFile(model_ + "/model.safetensors");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
  WriteWholeFile(model_ + "/model.safetensors", bytes);
  EXPECT_THAT(Error(Options("svd")), HasSubstr("model."));
}

TEST_F(FactorizeTest, FactoredLinearsAreNotFactoredAgain) {
  FactorizeOptions o = Options("svd");
  o.only_regex = "mlp";
  ASSERT_TRUE(Factorize(model_, temp_ / "mlp", o).ok());
  o.only_regex = "";
  const auto again = Factorize(temp_ / "mlp", temp_ / "out", o);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("factored already"));
  // The rest of it may be.
  o.only_regex = "self_attn";
  const auto rest = Factorize(temp_ / "mlp", temp_ / "out", o);
  ASSERT_TRUE(rest.ok()) << rest.status();
  const auto out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)->factored().size(), 21u);
}

}  // namespace
}  // namespace rankine
