#include "tools/eval/code_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

CodeOutcome RunCode(const std::string& program, const CodeLimits& limits = {}) {
  const auto outcome = RunPython(program, limits);
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  return outcome.value_or(CodeOutcome::kFailed);
}

TEST(CodeRunner, PassesWhatReachesItsEnd) {
  EXPECT_EQ(RunCode("assert 1 + 1 == 2\nprint('much')"), CodeOutcome::kPassed);
  EXPECT_EQ(RunCode("assert 1 + 1 == 3"), CodeOutcome::kFailed);
  EXPECT_EQ(RunCode("def f(:"), CodeOutcome::kFailed);
}

TEST(CodeRunner, LeavingEarlyIsNoSuccess) {
  EXPECT_EQ(RunCode("import sys\nsys.exit(0)"), CodeOutcome::kFailed);
  EXPECT_EQ(RunCode("import os\nos._exit(0)"), CodeOutcome::kFailed);
  EXPECT_EQ(RunCode("import os\nos.write(3, b'0123456789abcdef')\nos._exit(0)"),
            CodeOutcome::kFailed);
  EXPECT_EQ(RunCode("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
            CodeOutcome::kFailed);
}

TEST(CodeRunner, StopsWhatTakesTooLong) {
  EXPECT_EQ(RunCode("import time\ntime.sleep(60)", {.seconds = 0.5}), CodeOutcome::kTimedOut);
  EXPECT_EQ(RunCode("while True: pass", {.seconds = 0.5}), CodeOutcome::kTimedOut);
}

TEST(CodeRunner, LimitsMemoryAndFiles) {
  EXPECT_EQ(RunCode("x = bytearray(1 << 30)", {.memory_bytes = 256 << 20}), CodeOutcome::kFailed);
  EXPECT_EQ(RunCode("x = bytearray(1 << 20)", {.memory_bytes = 256 << 20}), CodeOutcome::kPassed);
  EXPECT_EQ(RunCode("with open('here', 'w') as f: f.write('x' * 1000)"), CodeOutcome::kPassed);
  EXPECT_EQ(RunCode("with open('here', 'w') as f: f.write('x' * 5000)", {.file_bytes = 1000}),
            CodeOutcome::kFailed);
}

TEST(CodeRunner, SeesNothingOfItsCaller) {
  EXPECT_EQ(RunCode("import os\nassert set(os.environ) <= {'PATH', 'PYTHONHASHSEED', 'LC_CTYPE'}"),
            CodeOutcome::kPassed);
  EXPECT_EQ(RunCode("import sys\nassert sys.stdin.read() == ''"), CodeOutcome::kPassed);
  // Descriptors: the three, the report and the one that lists them.
  EXPECT_EQ(RunCode("import os\nassert len(os.listdir('/proc/self/fd')) <= 5"),
            CodeOutcome::kPassed);
}

// What the probe promises is what programs find; where the kernel refuses, the probe says so.
TEST(CodeRunner, IsConfinedAsTheProbeSays) {
  const Confinement confinement = ProbeConfinement();
  const CodeOutcome offline = RunCode(
      "import socket\nassert all(name == 'lo' for _, name in socket.if_nameindex())\n"
      "s = socket.socket()\ntry:\n  s.connect(('127.0.0.1', 1))\nexcept OSError as e:\n"
      "  assert e.errno == 101, e");  // no route, not even to itself
  if (confinement.no_network) {
    EXPECT_EQ(offline, CodeOutcome::kPassed);
  }
  testing::TempFolder temp;
  const CodeOutcome wrote = RunCode(absl::StrCat("open('", temp / "outside", "', 'w').write('x')"));
  EXPECT_EQ(wrote, confinement.writes_confined ? CodeOutcome::kFailed : CodeOutcome::kPassed);
  EXPECT_EQ(std::filesystem::exists(temp / "outside"), !confinement.writes_confined);
}

TEST(CodeRunner, NamesAPythonThatIsNotThere) {
  EXPECT_THAT(std::string(RunPython("", {.python = "no-such-python"}).status().message()),
              HasSubstr("no-such-python"));
  EXPECT_THAT(std::string(RunPython("", {.python = "/no/python"}).status().message()),
              HasSubstr("--python"));
}

}  // namespace
}  // namespace rankine
