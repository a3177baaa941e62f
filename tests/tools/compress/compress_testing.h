// What the tests of factorisation and evaluation share: a tiny model with a byte-level tokenizer,
// and a text.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/loader.h"
#include "nlohmann/json.hpp"
#include "tests/testing/tiny_model.h"

namespace rankine::testing {

// Every file of a folder by name.
inline std::map<std::string, std::string> Files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename()] = ReadWholeFile(entry.path());
  }
  return files;
}

inline std::string Utf8(int code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// A byte-level BPE without merges: the token of a byte is the byte (GPT-2's alphabet maps printable
// bytes to themselves and the others to characters from U+0100 on).
inline std::string ByteLevelTokenizerJson() {
  nlohmann::ordered_json vocab = nlohmann::ordered_json::object();
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[Utf8(printable ? byte : next++)] = byte;
  }
  const nlohmann::ordered_json level{{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  return nlohmann::ordered_json{{"version", "1.0"},
                                {"truncation", nullptr},
                                {"padding", nullptr},
                                {"added_tokens", nlohmann::ordered_json::array()},
                                {"normalizer", nullptr},
                                {"pre_tokenizer", level},
                                {"post_processor", nullptr},
                                {"decoder", level},
                                {"model",
                                 {{"type", "BPE"},
                                  {"dropout", nullptr},
                                  {"unk_token", nullptr},
                                  {"continuing_subword_prefix", nullptr},
                                  {"end_of_word_suffix", nullptr},
                                  {"fuse_unk", false},
                                  {"byte_fallback", false},
                                  {"vocab", vocab},
                                  {"merges", nlohmann::ordered_json::array()}}}}
      .dump();
}

// Shapes that differ, so that a transposed or mixed up matrix shows.
inline TinyLlamaOptions TinyOptions() {
  return {.hidden = 32, .intermediate = 48, .layers = 3, .heads = 4, .kv_heads = 2, .vocab = 256};
}

inline void WriteTinyModelWithTokenizer(const std::string& folder,
                                        const TinyLlamaOptions& options) {
  WriteTinyLlama(folder, options);
  WriteWholeFile(folder + "/tokenizer.json", ByteLevelTokenizerJson());
}

// Deterministic text of `bytes` bytes.
inline std::string TinyText(size_t bytes, uint32_t seed = 7) {
  std::string text;
  for (uint32_t x = seed; text.size() < bytes;) {
    x = x * 1664525u + 1013904223u;
    text += static_cast<char>(" etaoinshrdlu\n(x)=_:"[(x >> 24) % 20]);
  }
  return text;
}

}  // namespace rankine::testing
