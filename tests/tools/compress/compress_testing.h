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
#include "models/tokenizer/tokenizer.h"
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

// Shapes that differ, so that a transposed or mixed up matrix shows.
inline TinyLlamaOptions TinyOptions() {
  return {.hidden = 32, .intermediate = 48, .layers = 3, .heads = 4, .kv_heads = 2, .vocab = 256};
}

// A token of its tokenizer is a byte.
inline void WriteTinyModelWithTokenizer(const std::string& folder,
                                        const TinyLlamaOptions& options) {
  WriteTinyLlama(folder, options);
  WriteWholeFile(folder + "/tokenizer.json", ByteTokenizerText());
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
