// What a server says about its model: GetModel's answer as plain values.
#pragma once

#include <cstdint>
#include <string>

namespace rankine {

struct ModelDescription {
  std::string name;
  std::string architecture;
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;
  int64_t context_length = 0;
  std::string compute;   // "f32", "bf16", ...: activations in products
  std::string kv_dtype;  // of the KV cache
  std::string method;    // "dense", or the factorisation method recorded in the folder
  int64_t weight_bytes = 0;
  int64_t weight_bytes_per_token = 0;
  std::string version;      // of Rankine
  std::string chat_format;  // empty = none recognised
  std::string device;       // "cpu (avx512-bf16, 2 threads)"
};

// The load of the server when it was asked.
struct ModelLoad {
  int64_t kv_blocks_total = 0;
  int64_t kv_blocks_free = 0;
  int64_t requests_running = 0;
  int64_t requests_waiting = 0;
};

}  // namespace rankine
