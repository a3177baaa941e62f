#include "tools/cli/model_flags.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/text.h"
#include "tools/measure/profile.h"

namespace rankine {

void ModelFlags::AddComputeTo(CLI::App& command) {
  command.add_option("--compute", compute,
                     "Activations in products: f32, bf16, int8 (where weights are block-encoded); "
                     "default: by the weights' encoding");
  command.add_option("--weight-dtype", weight_dtype,
                     "Weights in memory: f32, f16, bf16 (default: as stored)");
  command.add_option("--threads", threads, "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--pin-threads", pin_threads,
                   "Keep each thread on a core of its own (default: where the process may use only "
                   "some of the machine's cores)");
  command.add_option(
      "--isa", isa,
      "Instruction set: avx2, avx512, avx512-vnni, avx512-bf16, amx, ref (default: the best)");
  command
      .add_option(
          "--extra-weight-bytes", extra_weight_bytes,
          "Memory that plans may spend on other forms of matrices than the stored ones, all "
          "together, where a byte saves most time (default: 0)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--plan", plan,
                  "stable: the same plan at every batch size, on every machine; fastest: by this "
                  "machine's profile, another for other batch sizes where --extra-weight-bytes "
                  "allows; results then depend on the batch")
      ->check(CLI::IsMember({"stable", "fastest"}))
      ->capture_default_str();
}

void ModelFlags::AddTo(CLI::App& command) {
  AddComputeTo(command);
  command.add_option("--kv-dtype", kv_dtype,
                     "KV cache: f32, f16, bf16, int8 (default: f32 beside f32, else f16)");
}

absl::StatusOr<DType> ParseFloatDType(const std::string& flag, const std::string& value) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (value == Name(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": unknown dtype '", value, "'; use f32, f16 or bf16"));
}

std::string KvDTypeName(DType dtype) {
  return dtype == DType::kI8 ? "int8" : std::string(Name(dtype));
}

absl::StatusOr<DType> KvDTypeOf(const ModelFlags& flags, const FactoredModel& model) {
  if (flags.kv_dtype.empty()) {
    const LinearGroup& head = *model.groups().back();
    const bool f32_weights =
        head.dense_core(0).data != nullptr && head.dense_core(0).dtype == DType::kF32;
    return flags.compute == "f32" || (f32_weights && flags.compute.empty()) ? DType::kF32
                                                                            : DType::kF16;
  }
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    if (flags.kv_dtype == KvDTypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--kv-dtype: unknown dtype '", flags.kv_dtype, "'; use f32, f16, bf16 or int8"));
}

absl::StatusOr<LoadOptions> ToLoadOptions(const ModelFlags& flags, Device& device) {
  LoadOptions options{.extra_weight_bytes = flags.extra_weight_bytes};
  if (flags.plan == "fastest") {
    options.plan = PlanMode::kFastest;
    auto profile = KeptOrMeasuredProfile(device);
    if (!profile.ok()) return profile.status();
    options.profile = *profile;
  }
  if (flags.compute == "int8") {
    options.compute = DType::kI8;
  } else if (!flags.compute.empty()) {
    auto dtype = ParseFloatDType("--compute", flags.compute);
    if (!dtype.ok()) return dtype.status();
    if (*dtype == DType::kF16)
      return absl::InvalidArgumentError("--compute: use f32, bf16 or int8");
    options.compute = *dtype;
  }
  if (!flags.weight_dtype.empty()) {
    auto dtype = ParseFloatDType("--weight-dtype", flags.weight_dtype);
    if (!dtype.ok()) return dtype.status();
    options.weight_dtype = *dtype;
  }
  return options;
}

absl::StatusOr<OpenedModel> OpenModel(const std::string& path, const ModelFlags& flags) {
  OpenedModel opened{.path = path};
  auto checkpoint = OpenCheckpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  opened.checkpoint = *std::move(checkpoint);
  CpuOptions device_options{.num_threads = flags.threads, .isa = flags.isa};
  if (flags.pin_threads) device_options.pin_threads = true;
  auto device = MakeCpuDevice(device_options);
  if (!device.ok()) return device.status();
  opened.device = *std::move(device);
  auto options = ToLoadOptions(flags, *opened.device);
  if (!options.ok()) return options.status();
  auto model = LoadModel(*opened.checkpoint, *opened.device, *options);
  if (!model.ok()) return model.status();
  opened.model = *std::move(model);
  return opened;
}

std::string ComputeName(const FactoredModel& model) {
  const std::vector<const LinearGroup*> groups = model.groups();
  for (const LinearGroup* group : groups) {
    for (const PlanStep& step : group->plan().steps) {
      for (const PlanProduct& p : step.products) {
        if (p.compute == DType::kI8) return KvDTypeName(p.compute);
      }
    }
  }
  return std::string(Name(groups.back()->compute()));
}

absl::StatusOr<std::unique_ptr<TextModel>> OpenTextModel(const std::string& path,
                                                         const ModelFlags& flags,
                                                         const EngineOptions& options) {
  auto text = std::make_unique<TextModel>();
  auto opened = OpenModel(path, flags);
  if (!opened.ok()) return opened.status();
  text->opened = *std::move(opened);
  const FactoredModel& model = *text->opened.model;
  auto tokenizer = TokenizerOf(*text->opened.checkpoint);
  if (!tokenizer.ok()) return tokenizer.status();
  text->tokenizer = *std::move(tokenizer);
  text->codec.tokenizer = text->tokenizer.get();
  auto format = ChatFormatOf(*text->opened.checkpoint);
  if (format.ok()) {
    text->codec.chat_format = *format;
  } else {
    text->codec.chat_error = std::string(format.status().message());
  }
  text->limits.context_length = model.shape().max_position;
  text->limits.vocab_size = model.shape().vocab_size;
  EngineOptions engine_options = options;
  auto kv_dtype = KvDTypeOf(flags, model);
  if (!kv_dtype.ok()) return kv_dtype.status();
  engine_options.kv_dtype = *kv_dtype;
  auto engine = Engine::Start(model, engine_options);
  if (!engine.ok()) return engine.status();
  text->engine = *std::move(engine);
  return text;
}

}  // namespace rankine
