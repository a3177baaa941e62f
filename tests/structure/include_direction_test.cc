// The folders depend on each other in one direction (README.md): an include that goes against it,
// or a generated protobuf type outside serving and tools, fails here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace rankine {
namespace {

// In the order of dependency: each may include itself and what is to its left.
const std::vector<std::string> kLayers = {"kernels", "runtime", "models", "serving", "tools"};
const std::vector<std::string> kOnTop = {"bench", "tests"};  // included by nothing but themselves

std::string FolderOf(const std::string& path) { return path.substr(0, path.find('/')); }

int LayerOf(const std::string& folder) {
  const auto found = std::find(kLayers.begin(), kLayers.end(), folder);
  return found == kLayers.end() ? -1 : static_cast<int>(found - kLayers.begin());
}

bool IsOnTop(const std::string& folder) {
  return std::find(kOnTop.begin(), kOnTop.end(), folder) != kOnTop.end();
}

bool IsGenerated(const std::string& include) { return include.ends_with(".pb.h"); }

// What is wrong with `file` (relative to the repository) including `include`; empty when nothing.
std::string Violation(const std::string& file, const std::string& include) {
  const std::string from = FolderOf(file);
  const std::string to = FolderOf(include);
  if (IsGenerated(include) || include.starts_with("google/protobuf/")) {
    const bool allowed = from == "serving" || from == "tools" ||
                         file.starts_with("tests/serving/") || file.starts_with("tests/tools/") ||
                         from == "bench";
    return allowed ? "" : file + " uses protobuf: " + include;
  }
  if (IsOnTop(to) && !IsOnTop(from)) return file + " includes " + include + ", which is on top";
  if (LayerOf(from) >= 0 && LayerOf(to) > LayerOf(from)) {
    return file + " includes " + include + ", against the direction of dependency";
  }
  return "";
}

std::vector<std::string> Violations(const std::string& file, const std::string& text) {
  static const std::regex include(R"re(^\s*#\s*include\s*["<]([^">]+)[">])re");
  std::vector<std::string> found;
  std::istringstream lines(text);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_search(line, match, include)) continue;
    // A relative path would hide where it goes.
    std::string problem = match[1].str().starts_with("..")
                              ? file + " includes " + match[1].str() + " by a relative path"
                              : Violation(file, match[1]);
    if (!problem.empty()) found.push_back(std::move(problem));
  }
  return found;
}

bool IsSource(const std::filesystem::path& path) {
  static const std::vector<std::string> extensions = {".h", ".cc", ".cu", ".cuh", ".inc", ".hpp"};
  return std::find(extensions.begin(), extensions.end(), path.extension()) != extensions.end();
}

TEST(IncludeDirectionTest, TheRepositoryKeepsIt) {
  const std::filesystem::path root = RANKINE_SOURCE_DIR;
  std::vector<std::string> folders = kLayers;
  folders.insert(folders.end(), kOnTop.begin(), kOnTop.end());
  std::vector<std::string> problems;
  int num_files = 0;
  for (const std::string& folder : folders) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !IsSource(entry.path())) continue;
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      const std::string name = std::filesystem::relative(entry.path(), root).generic_string();
      for (std::string& problem : Violations(name, text.str())) {
        problems.push_back(std::move(problem));
      }
      ++num_files;
    }
  }
  EXPECT_THAT(problems, ::testing::IsEmpty());
  EXPECT_GT(num_files, 30) << "the walk does not see the sources";
}

TEST(IncludeDirectionTest, FindsAnIncludeAgainstTheDirection) {
  EXPECT_THAT(
      Violations("runtime/engine/engine.cc", "#include <vector>\n#include \"models/registry.h\"\n"),
      ::testing::ElementsAre(::testing::HasSubstr("models/registry.h")));
  EXPECT_EQ(Violations("kernels/cpu/a.cc", "  #  include <runtime/model.h>\n").size(), 1);
  EXPECT_EQ(Violations("serving/a.h", "#include \"tools/cli/cli.h\"").size(), 1);
  EXPECT_EQ(Violations("models/a.h", "#include \"../serving/server.h\"").size(), 1);
  EXPECT_EQ(Violations("tools/a.cc", "#include \"tests/testing/fake_model.h\"").size(), 1);
}

TEST(IncludeDirectionTest, FindsProtobufTypesWhereTheyDoNotBelong) {
  const std::string generated = "#include \"rankine/v1/inference.pb.h\"\n";
  EXPECT_EQ(Violations("models/a.cc", generated).size(), 1);
  EXPECT_EQ(Violations("runtime/a.cc", "#include <google/protobuf/message.h>\n").size(), 1);
  EXPECT_THAT(Violations("serving/a.cc", generated), ::testing::IsEmpty());
  EXPECT_THAT(Violations("tools/cli/a.cc", generated), ::testing::IsEmpty());
}

TEST(IncludeDirectionTest, AllowsWhatGoesDown) {
  EXPECT_THAT(Violations("tools/a.cc", "#include \"kernels/op_table.h\"\n#include \"tools/b.h\"\n"),
              ::testing::IsEmpty());
  EXPECT_THAT(Violations("tests/runtime/a.cc", "#include \"tests/testing/fake_model.h\"\n"),
              ::testing::IsEmpty());
  EXPECT_THAT(Violations("models/a.cc", "// see #include \"serving/server.h\"\n"),
              ::testing::IsEmpty());
}

}  // namespace
}  // namespace rankine
