// Runs that are interrupted go on to the same bytes, and runs do not get into each other's way.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/encode/encoding_name.h"
#include "tests/tools/compress/factorize_testing.h"
#include "tools/compress/linears.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/work_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Files;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::WriteWholeFile;

class InterruptionTest : public FactorizeTest {};

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

TEST_F(InterruptionTest, GoesOnAfterAKillAtAnyPointWithTheSameBytes) {
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
TEST_F(InterruptionTest, AKillAfterTheLastRenameIsNoticed) {
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

TEST_F(InterruptionTest, StopsWhenToldAndGoesOn) {
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

TEST_F(InterruptionTest, DamagedPartsAreMadeAgain) {
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

TEST_F(InterruptionTest, RefusesAnotherRunsFolder) {
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

TEST_F(InterruptionTest, OneRunAtATime) {
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

TEST_F(InterruptionTest, SharesStatisticsBetweenRuns) {
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

// A method with options of its own and the policy that it runs under.
struct ResumedRun {
  std::string name, method, allocation;
  OptionValues options;
  double bits = 0;
  std::string encoding = "bf16";
};

std::vector<ResumedRun> ResumedRuns() {
  return {{"svd", "svd", ""},
          {"fwsvd", "fwsvd", ""},
          {"asvd", "asvd", ""},
          {"svd_llm", "svd-llm", ""},
          {"svd_llm_u", "svd-llm-u", ""},
          {"lord", "lord", ""},
          {"bolaco", "bolaco", ""},
          {"basel_ranking", "basel-ranking", ""},
          {"mpo", "mpo", ""},
          {"tucker", "tucker", ""},
          {"tucker_qkv", "tucker", "", {{"stack", "qkv"}}},
          {"tucker_qkvo", "tucker", "", {{"stack", "qkvo"}}},
          {"qlr", "qlr", "", {{"base-encode", "int3:g16"}}, 12},
          {"caldera", "caldera", "", {{"base-encode", "int3:g16"}, {"iterations", "2"}}, 12},
          {"loss_greedy", "svd-llm", "loss-greedy"},
          {"laser", "laser", "laser"},
          {"sensitivity", "asvd", "sensitivity"},
          {"bayes", "svd-llm", "bayes"}};
}

class ResumingTest : public FactorizeTest, public ::testing::WithParamInterface<ResumedRun> {
 protected:
  FactorizeOptions OptionsOf(const ResumedRun& run) {
    FactorizeOptions o = Options(run.method);
    o.method_options = run.options;
    o.allocation = run.allocation;
    o.bits = run.bits;
    o.factor_encoding = *ParseEncoding(run.encoding);
    if (run.method == "fwsvd") o.fisher_file = WriteFisher();
    if (!searches(run)) return o;
    WriteWholeFile(temp_ / "validation", testing::TinyText(256, 11));
    o.only_regex = "q_proj|down_proj";
    o.validation_files = {temp_ / "validation"};
    o.validation_windows = 4;
    o.validation_window = 64;
    o.search = {.evaluations = 4};
    return o;
  }

  static bool searches(const ResumedRun& run) {
    return run.allocation == "laser" || run.allocation == "sensitivity" ||
           run.allocation == "bayes";
  }

  std::string WriteFisher() const {
    const auto source = *OpenCheckpoint(model_);
    std::vector<TensorSpec> specs;
    const std::vector<LinearInfo> linears = *SelectLinears(*source, "", "");
    for (const LinearInfo& l : linears) {
      specs.push_back({l.name + ".fisher", DType::kF32, {l.in_features()}});
    }
    fs::create_directories(temp_ / "fisher");
    auto writer = *SafetensorsWriter::Create(temp_ / "fisher", specs);
    for (const TensorSpec& s : specs) {
      std::vector<float> values;
      for (int64_t j = 0; j < s.shape[0]; ++j) values.push_back(1.0f + static_cast<float>(j % 5));
      EXPECT_TRUE(writer.Append(s.name, values.data(), s.shape[0] * 4).ok());
    }
    EXPECT_TRUE(writer.Finish().ok());
    return temp_ / "fisher/model.safetensors";
  }
};

// Killed before and behind each layer, and between what a search measures.
TEST_P(ResumingTest, GoesOnAfterEachLayerToTheSameBytes) {
  const FactorizeOptions options = OptionsOf(GetParam());
  const auto with_file = [&](const std::string& name) {
    FactorizeOptions o = options;
    if (searches(GetParam())) o.search_file = temp_ / name;
    return o;
  };
  std::vector<std::string> calls;
  const auto whole =
      Factorize(model_, temp_ / "whole", with_file("whole.losses"), [&](const Progress& p) {
        calls.push_back(p.text);
        return true;
      });
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto expected = Files(temp_ / "whole");
  std::vector<size_t> cuts;
  size_t searched = 0;
  for (size_t k = 0; k < calls.size(); ++k) {
    const bool boundary =
        absl::EndsWith(calls[k], ": done") || absl::EndsWith(calls[k], ": factoring");
    const bool measured = calls[k].find("measured") != std::string::npos && searched++ % 7 == 3;
    if (boundary || measured) cuts.push_back(k);
  }
  ASSERT_GE(cuts.size(), 6u);  // three layers, two cuts each
  EXPECT_EQ(searches(GetParam()), searched > 0);
  for (const size_t cut : cuts) {
    SCOPED_TRACE(calls[cut]);
    const std::string out = temp_ / "resumed";
    ASSERT_FALSE(RunAndDieAt(static_cast<int>(cut), model_, out, with_file("resumed.losses")));
    const auto resumed = Factorize(model_, out, with_file("resumed.losses"));
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_EQ(Files(out), expected);
    EXPECT_EQ(resumed->parameters_kept, whole->parameters_kept);
    if (searches(GetParam())) {
      EXPECT_EQ(ReadWholeFile(temp_ / "resumed.losses"), ReadWholeFile(temp_ / "whole.losses"));
      fs::remove(temp_ / "resumed.losses");
    }
    fs::remove_all(out);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, ResumingTest, ::testing::ValuesIn(ResumedRuns()),
                         [](const auto& info) { return info.param.name; });

TEST(ResumedRunsTest, AllMethodsAreAmongThem) {
  std::set<std::string> methods;
  for (const ResumedRun& run : ResumedRuns()) methods.insert(run.method);
  for (const Method& m : Methods()) EXPECT_EQ(methods.count(std::string(m.name)), 1u) << m.name;
}

}  // namespace
}  // namespace rankine
