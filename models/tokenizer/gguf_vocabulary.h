// The tokenizer as GGUF metadata carries it (tokenizer.ggml.*), without the file around it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rankine {

struct GgufVocabulary {
  std::string model;  // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (sentencepiece)
  std::string pre;    // tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", "gpt-2", ...
  std::vector<std::string> tokens;  // by id
  std::vector<float> scores;        // by id; may be empty for BPE
  std::vector<int32_t>
      token_types;  // by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "left right", best first; BPE only
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t unknown_id = -1;
  int32_t padding_id = -1;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = true;  // sentencepiece only
  std::string chat_template;     // tokenizer.chat_template; empty = none
};

}  // namespace rankine
