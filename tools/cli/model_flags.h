// Flags that every command with a model shares, and what they open: checkpoint, device, model,
// tokenizer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "models/loader.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/engine/engine.h"
#include "serving/prompt.h"

namespace CLI {
class App;
}

namespace rankine {

struct ModelFlags {
  std::string compute;       // f32, bf16, int8; empty = by encoding
  std::string weight_dtype;  // f32, f16, bf16; empty = as stored
  std::string kv_dtype;      // f32, f16, bf16, int8; empty = f32 where all else is f32, or f16
  std::string isa;
  std::string plan = "stable";  // stable, fastest
  int threads = 0;
  bool pin_threads = false;  // else where the process was given cores
  int64_t extra_weight_bytes = 0;

  void AddTo(CLI::App& command);
  // Without --kv-dtype, for commands that keep no long context.
  void AddComputeTo(CLI::App& command);
};

// A model ready to run. Members are destroyed in the right order: the model before its device.
struct OpenedModel {
  std::string path;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<FactoredModel> model;
};

absl::StatusOr<DType> ParseFloatDType(const std::string& flag, const std::string& value);
// The cache's dtype: the flag, or its default for the model.
absl::StatusOr<DType> KvDTypeOf(const ModelFlags& flags, const FactoredModel& model);
// The name of --kv-dtype for a dtype: "int8" for i8.
std::string KvDTypeName(DType dtype);

// --plan fastest: with the machine's kept profile, which is measured and kept where there is none.
absl::StatusOr<LoadOptions> ToLoadOptions(const ModelFlags& flags, Device& device);
// Opens and loads `path`, a folder or a .gguf file.
absl::StatusOr<OpenedModel> OpenModel(const std::string& path, const ModelFlags& flags);
// What --compute came to: "int8" where any layer quantises its activations, else the dtype.
std::string ComputeName(const FactoredModel& model);

// Tokenizer, chat format (absent when there is no template) and engine for generation.
struct TextModel {
  OpenedModel opened;
  std::unique_ptr<const Tokenizer> tokenizer;
  PromptCodec codec;
  RequestLimits limits;
  std::unique_ptr<Engine> engine;
};
absl::StatusOr<std::unique_ptr<TextModel>> OpenTextModel(const std::string& path,
                                                         const ModelFlags& flags,
                                                         const EngineOptions& options);

}  // namespace rankine
