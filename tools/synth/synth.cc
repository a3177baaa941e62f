#include "tools/synth/synth.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "kernels/cpu/thread_pool.h"
#include "models/checkpoint/folder_writer.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/status_macros.h"
#include "models/tokenizer/tokenizer.h"
#include "tools/measure/stopwatch.h"

namespace rankine {
namespace {

// Made in memory before they are written, and the share that one thread takes at a time.
constexpr int64_t kBlockBytes = int64_t{32} << 20;
constexpr int64_t kPieceBytes = int64_t{128} << 10;
constexpr int64_t kByteTokens = 256;

class Synthesizer {
 public:
  explicit Synthesizer(const SynthOptions& options) : options_(options), config_(options.config) {
    config_.random_weights = true;
  }

  // Says what will be written.
  absl::Status Plan() {
    RK_RETURN_IF_ERROR(CheckFormOptions(options_.form));
    RK_RETURN_IF_ERROR(ValidateModelConfig(config_, "--shape"));
    const Encoding head = options_.head_encoding.value_or(options_.form.encoding);
    embedding_dtype_ = head.IsFloat() ? head.dtype : DType::kBF16;
    if (config_.tie_embeddings && options_.head_encoding) {
      // The embedding is lm_head too, and then a matrix like others.
      const std::string name(absl::StripSuffix(kEmbeddingTensor, ".weight"));
      const LinearSpec embedding{name, config_.vocab_size, config_.hidden_size, false};
      RK_RETURN_IF_ERROR(AddMatrix(embedding, {.encoding = head}, nullptr));
    } else {
      AddFloats(kEmbeddingTensor, embedding_dtype_, {config_.vocab_size, config_.hidden_size},
                RandomTensor::Fill::kUniform);
    }
    for (const LinearSpec& linear : LlamaLinears(config_))
      RK_RETURN_IF_ERROR(AddLinear(linear, head));
    for (const VectorSpec& vector : LlamaVectors(config_)) {
      AddFloats(vector.name, DType::kF32, {vector.size}, RandomTensor::Fill::kOnes);
    }
    for (const RandomTensor& tensor : tensors_) report_.bytes += BytesOf(tensor.spec);
    report_.tensors = static_cast<int64_t>(tensors_.size());
    return absl::OkStatus();
  }

  absl::StatusOr<SynthReport> Write(const std::string& out) {
    const auto start = Clock::now();
    RK_ASSIGN_OR_RETURN(FolderWriter folder, FolderWriter::Create(out));
    RK_RETURN_IF_ERROR(
        folder.WriteFile("config.json", SerializeModelConfig(config_, embedding_dtype_)));
    RK_RETURN_IF_ERROR(
        folder.WriteFile("generation_config.json", SerializeGenerationConfig(config_)));
    if (config_.vocab_size >= kByteTokens) {
      RK_RETURN_IF_ERROR(folder.WriteFile("tokenizer.json", ByteTokenizerText()));
    }
    if (!matrices_.empty()) {
      RK_RETURN_IF_ERROR(folder.WriteFile("factorization.json", SerializeManifest(matrices_)));
    }
    RK_RETURN_IF_ERROR(WriteTensors(folder.staging()));
    RK_RETURN_IF_ERROR(folder.Commit());
    report_.seconds = SecondsSince(start);
    return report_;
  }

 private:
  void AddFloats(const std::string& name, DType dtype, std::vector<int64_t> shape,
                 RandomTensor::Fill fill) {
    RandomTensor tensor{.spec = {name, dtype, std::move(shape)},
                        .fill = fill,
                        .key = RandomKey(options_.seed, name)};
    // As a tied output matrix it gives logits of unit variance.
    tensor.amplitude = std::sqrt(3.0f / static_cast<float>(config_.hidden_size));
    tensors_.push_back(std::move(tensor));
  }

  absl::Status AddLinear(const LinearSpec& linear, const Encoding& head) {
    if (linear.name == "lm_head") return AddMatrix(linear, {.encoding = head}, nullptr);
    ++report_.linears;
    report_.dense_parameters += linear.out * linear.in;
    return AddMatrix(linear, options_.form, &report_.stored_parameters);
  }

  // Adds the numbers of its cores to *parameters where that is given.
  absl::Status AddMatrix(const LinearSpec& linear, const FormOptions& form, int64_t* parameters) {
    RK_ASSIGN_OR_RETURN(RandomMatrix made, MakeRandomMatrix(linear, form, options_.seed));
    if (parameters != nullptr) {
      *parameters += made.matrix.NumParameters() - (linear.has_bias ? linear.out : 0);
    }
    if (form.form == SynthForm::kDense && form.encoding.IsFloat()) {
      // A plain tensor, as any reader knows it.
      made.tensors[0].spec.name = linear.weight();
    } else {
      matrices_.push_back(std::move(made.matrix));
    }
    std::move(made.tensors.begin(), made.tensors.end(), std::back_inserter(tensors_));
    return absl::OkStatus();
  }

  absl::Status WriteTensors(const std::string& folder) {
    std::vector<TensorSpec> specs;
    for (const RandomTensor& tensor : tensors_) specs.push_back(tensor.spec);
    RK_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(folder, specs));
    ThreadPool pool(options_.threads > 0 ? options_.threads : DefaultNumThreads());
    std::vector<char> block(static_cast<size_t>(std::min(kBlockBytes, report_.bytes)));
    int64_t done = 0;
    for (const RandomTensor& tensor : tensors_) {
      const int64_t size = BytesOf(tensor.spec);
      for (int64_t begin = 0; begin < size; begin += kBlockBytes) {
        const int64_t bytes = std::min(kBlockBytes, size - begin);
        Generate(tensor, begin, bytes, block.data(), &pool);
        RK_RETURN_IF_ERROR(writer.Append(tensor.spec.name, block.data(), bytes));
        done += bytes;
        if (options_.progress) options_.progress(done, report_.bytes);
      }
    }
    return writer.Finish();
  }

  void Generate(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out,
                ThreadPool* pool) {
    const auto start = Clock::now();
    WorkQueue queue(bytes, kPieceBytes);
    pool->Run([&](int) {
      int64_t from, to;
      while (queue.Next(&from, &to)) FillRandom(tensor, begin + from, to - from, out + from);
    });
    report_.generate_seconds += SecondsSince(start);
  }

  const SynthOptions& options_;
  ModelConfig config_;
  DType embedding_dtype_ = DType::kBF16;
  std::vector<RandomTensor> tensors_;
  std::vector<FactoredMatrix> matrices_;
  SynthReport report_;
};

}  // namespace

absl::StatusOr<SynthReport> SynthesizeModel(const SynthOptions& options, const std::string& out) {
  Synthesizer synthesizer(options);
  RK_RETURN_IF_ERROR(synthesizer.Plan());
  return synthesizer.Write(out);
}

}  // namespace rankine
