// Small random Llama models on disk, for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "models/config.h"

namespace rankine::testing {

struct TinyLlamaOptions {
  int64_t hidden = 32;
  int64_t intermediate = 48;
  int64_t layers = 2;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 0;  // 0 = hidden / heads
  int64_t vocab = 96;
  int64_t max_position = 256;
  bool tied = true;
  bool biases = false;  // of attention and MLP
  RopeConfig rope;
  std::vector<int32_t> eos_ids = {2};
  uint64_t seed = 1;
  DType dtype = DType::kF32;  // of matrices and of the factors U and V; vectors and S are f32
  // 0 = dense. Otherwise every linear but lm_head is W = U diag(S) V of this rank, stored factored.
  int64_t factored_rank = 0;
  // With factored_rank: store the product W as a dense matrix instead. The same seed gives the same
  // numbers, so that the two folders are the same model up to rounding.
  bool store_product = false;
  int64_t max_shard_bytes = int64_t{5'000'000'000};
};

ModelConfig TinyLlamaConfig(const TinyLlamaOptions& options);

// Writes the folder (created, with its parents); aborts on failure. Weights are normal with
// standard deviation 1 / sqrt(in), so activations keep their size through the layers.
void WriteTinyLlama(const std::string& folder, const TinyLlamaOptions& options);

// A new empty folder, removed with everything in it when the object goes.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The whole file; aborts when it cannot be read.
std::string ReadWholeFile(const std::string& path);
// Creates or replaces the file.
void WriteWholeFile(const std::string& path, const std::string& bytes);

}  // namespace rankine::testing
