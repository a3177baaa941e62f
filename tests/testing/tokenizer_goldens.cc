#include "tests/testing/tokenizer_goldens.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/base/check.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine::testing {
namespace {

using nlohmann::json;

std::string Fnv(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (char byte : text) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3;
  char buffer[5];
  std::snprintf(buffer, sizeof(buffer), "%04x", static_cast<unsigned>(hash & 0xFFFF));
  return buffer;
}

template <typename Numbers>
std::string DigestOf(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) {
    if (!text.empty()) text += ' ';
    text += std::to_string(static_cast<int32_t>(number));
  }
  return Fnv(text);
}

}  // namespace

std::string Digest(const std::vector<int32_t>& ids) { return DigestOf(ids); }

std::string DigestOfBytes(std::string_view text) {
  return DigestOf(std::vector<uint8_t>(text.begin(), text.end()));
}

std::string MakeTemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "rankine_test_XXXXXX").string();
  RK_CHECK(mkdtemp(pattern.data()) != nullptr);
  return pattern;
}

void WriteFileOrDie(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  RK_CHECK(static_cast<bool>(file));
}

absl::StatusOr<GgufVocabulary> DemoModelVocabulary() {
  const char* path = std::getenv("RANKINE_TEST_GGUF");
  if (path == nullptr) {
    return absl::FailedPreconditionError(
        "set RANKINE_TEST_GGUF to the path of SmolLM2-135M-Instruct.Q4_1.gguf "
        "(tools/test.sh fetches it)");
  }
  auto checkpoint = OpenGguf(path);
  if (!checkpoint.ok()) return checkpoint.status();
  RK_CHECK((*checkpoint)->gguf_vocabulary() != nullptr);
  return *(*checkpoint)->gguf_vocabulary();
}

TokenizerGoldens::TokenizerGoldens(std::string folder) : folder_(std::move(folder)) {
  strings_ = json::parse(Read("strings.json")).get<std::vector<std::string>>();
}

std::string TokenizerGoldens::Read(const std::string& file) const {
  std::ifstream stream(folder_ + "/" + file, std::ios::binary);
  RK_CHECK(static_cast<bool>(stream));
  return std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
}

std::vector<std::string> TokenizerGoldens::Digests(const std::string& name) const {
  const std::string all = json::parse(Read("digests.json")).at(name).get<std::string>();
  std::vector<std::string> digests;
  for (size_t i = 0; i < all.size(); i += 4) digests.push_back(all.substr(i, 4));
  return digests;
}

std::vector<std::vector<int32_t>> TokenizerGoldens::SmolIds() const {
  std::vector<std::vector<int32_t>> all;
  std::istringstream lines(Read("smollm2.ids"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    all.emplace_back(std::istream_iterator<int32_t>(numbers), std::istream_iterator<int32_t>());
  }
  return all;
}

std::unique_ptr<const Tokenizer> TokenizerGoldens::Load(const std::string& name) const {
  const std::string folder = MakeTemporaryFolder();
  const bool is_json = std::filesystem::exists(folder_ + "/" + name + ".json");
  WriteFileOrDie(folder + (is_json ? "/tokenizer.json" : "/tokenizer.model"),
                 Read(name + (is_json ? ".json" : ".spm")));
  auto tokenizer = LoadTokenizer(folder);
  if (!tokenizer.ok()) std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
  RK_CHECK(tokenizer.ok());
  std::filesystem::remove_all(folder);
  return *std::move(tokenizer);
}

GgufVocabulary TokenizerGoldens::AsGguf(const std::string& name, const std::string& pre) const {
  const json document = json::parse(Read(name + ".json"));
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = pre;
  const json& vocab = document["model"]["vocab"];
  vocabulary.tokens.resize(vocab.size());
  vocabulary.token_types.resize(vocab.size(), 1);
  for (const auto& [piece, id] : vocab.items()) vocabulary.tokens[id.get<size_t>()] = piece;
  for (const json& token : document["added_tokens"]) {
    const size_t id = token["id"];
    if (id >= vocabulary.tokens.size()) {
      vocabulary.tokens.resize(id + 1);
      vocabulary.token_types.resize(id + 1, 1);
    }
    vocabulary.tokens[id] = token["content"];
    vocabulary.token_types[id] = token["special"].get<bool>() ? 3 : 4;
    if (token["content"] == "<|begin_of_text|>") {
      vocabulary.bos_id = static_cast<int32_t>(id);
      vocabulary.add_bos = true;
    }
  }
  for (const json& merge : document["model"]["merges"]) {
    vocabulary.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                                  : merge[0].get<std::string>() + " " +
                                                        merge[1].get<std::string>());
  }
  return vocabulary;
}

GgufVocabulary TokenizerGoldens::SentencePieceVocabulary() const {
  const json document = json::parse(Read("spm_bpe_vocabulary.json"));
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = document["tokens"].get<std::vector<std::string>>();
  vocabulary.scores = document["scores"].get<std::vector<float>>();
  vocabulary.token_types = document["types"].get<std::vector<int32_t>>();
  vocabulary.unknown_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  vocabulary.add_bos = true;
  return vocabulary;
}

}  // namespace rankine::testing
