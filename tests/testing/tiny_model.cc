#include "tests/testing/tiny_model.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "absl/status/status.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/llama_layout.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine::testing {
namespace {

void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "tiny model: %s\n", status.ToString().c_str());
  std::abort();
}

struct TinyTensor {
  TensorSpec spec;
  std::vector<float> values;
};

class Builder {
 public:
  explicit Builder(const TinyLlamaOptions& options)
      : options_(options), config_(TinyLlamaConfig(options)), random_(options.seed) {}

  void Build() {
    Add(kEmbeddingTensor, options_.dtype, {config_.vocab_size, config_.hidden_size},
        Normal(config_.vocab_size * config_.hidden_size, 1.0));
    for (const LinearSpec& linear : LlamaLinears(config_)) AddLinear(linear);
    for (const VectorSpec& vector : LlamaVectors(config_)) {
      std::vector<float> values = Normal(vector.size, 0.1);
      for (float& v : values) v += 1.0f;
      Add(vector.name, DType::kF32, {vector.size}, std::move(values));
    }
    if (!config_.rope.frequency_divisors.empty()) {
      Add(kRopeFreqsTensor, DType::kF32, {config_.head_dim / 2}, config_.rope.frequency_divisors);
    }
  }

  void Write(const std::string& folder) const {
    std::vector<TensorSpec> specs;
    for (const TinyTensor& tensor : tensors_) specs.push_back(tensor.spec);
    auto writer = SafetensorsWriter::Create(folder, specs, options_.max_shard_bytes);
    Require(writer.status());
    for (const TinyTensor& tensor : tensors_) {
      const int64_t count = static_cast<int64_t>(tensor.values.size());
      std::vector<char> bytes(tensor.values.size() * SizeOf(tensor.spec.dtype));
      ConvertFloats(DType::kF32, tensor.values.data(), tensor.spec.dtype, bytes.data(), count);
      Require(writer->Append(tensor.spec.name, bytes.data(), static_cast<int64_t>(bytes.size())));
    }
    Require(writer->Finish());
    WriteWholeFile(folder + "/config.json", SerializeModelConfig(config_, options_.dtype));
    if (!factored_.empty()) {
      WriteWholeFile(folder + "/factorization.json", SerializeManifest(factored_));
    }
  }

 private:
  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           std::vector<float> values) {
    tensors_.push_back({{name, dtype, std::move(shape)}, std::move(values)});
  }

  std::vector<float> Normal(int64_t count, double deviation) {
    std::normal_distribution<double> normal(0.0, deviation);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = static_cast<float>(normal(random_));
    return values;
  }

  void AddLinear(const LinearSpec& linear) {
    if (linear.has_bias) {
      Add(linear.bias(), DType::kF32, {linear.out}, Normal(linear.out, 0.1));
    }
    if (options_.factored_rank == 0 || linear.name == "lm_head") {
      Add(linear.weight(), options_.dtype, {linear.out, linear.in},
          Normal(linear.out * linear.in, 1.0 / std::sqrt(static_cast<double>(linear.in))));
      return;
    }
    AddFactored(linear);
  }

  void AddFactored(const LinearSpec& linear) {
    const int64_t rank = options_.factored_rank;
    const std::vector<float> u = Normal(linear.out * rank, 1.0 / std::sqrt(double(rank)));
    const std::vector<float> v = Normal(rank * linear.in, 1.0 / std::sqrt(double(linear.in)));
    std::vector<float> s(static_cast<size_t>(rank));
    for (int64_t k = 0; k < rank; ++k) {
      s[static_cast<size_t>(k)] = 1.5f - static_cast<float>(k) / static_cast<float>(rank);
    }
    if (options_.store_product) {
      std::vector<float> product(static_cast<size_t>(linear.out * linear.in));
      for (int64_t o = 0; o < linear.out; ++o) {
        for (int64_t i = 0; i < linear.in; ++i) {
          double sum = 0;
          for (int64_t k = 0; k < rank; ++k) {
            sum += double(u[size_t(o * rank + k)]) * s[size_t(k)] * v[size_t(k * linear.in + i)];
          }
          product[size_t(o * linear.in + i)] = static_cast<float>(sum);
        }
      }
      Add(linear.weight(), options_.dtype, {linear.out, linear.in}, std::move(product));
      return;
    }
    Add(linear.name + ".U", options_.dtype, {linear.out, rank}, u);
    Add(linear.name + ".S", DType::kF32, {rank}, s);
    Add(linear.name + ".V", options_.dtype, {rank, linear.in}, v);
    FactoredMatrix matrix =
        SvdMatrix(linear.name, linear.out, linear.in, rank, Encoding::Float(options_.dtype),
                  linear.has_bias ? linear.bias() : "");
    matrix.provenance.method = "random";
    factored_.push_back(std::move(matrix));
  }

  const TinyLlamaOptions& options_;
  ModelConfig config_;
  std::mt19937_64 random_;
  std::vector<TinyTensor> tensors_;
  std::vector<FactoredMatrix> factored_;
};

}  // namespace

ModelConfig TinyLlamaConfig(const TinyLlamaOptions& o) {
  ModelConfig c;
  c.architecture = "llama";
  c.vocab_size = o.vocab;
  c.hidden_size = o.hidden;
  c.intermediate_size = o.intermediate;
  c.num_layers = o.layers;
  c.num_heads = o.heads;
  c.num_kv_heads = o.kv_heads;
  c.head_dim = o.head_dim > 0 ? o.head_dim : o.hidden / o.heads;
  c.max_position = o.max_position;
  c.rope = o.rope;
  c.tie_embeddings = o.tied;
  c.attention_bias = o.biases;
  c.mlp_bias = o.biases;
  c.eos_ids = o.eos_ids;
  c.random_weights = true;
  return c;
}

void WriteTinyLlama(const std::string& folder, const TinyLlamaOptions& options) {
  std::filesystem::create_directories(folder);
  Builder builder(options);
  builder.Build();
  builder.Write(folder);
}

TempFolder::TempFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "rankine-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::abort();
  }
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return std::move(bytes).str();
}

void WriteWholeFile(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  out.close();
  if (!out) {
    std::fprintf(stderr, "cannot write %s\n", path.c_str());
    std::abort();
  }
}

}  // namespace rankine::testing
