#include "tools/explore/evaluator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "models/text.h"
#include "tools/compress/fingerprint.h"
#include "tools/eval/fidelity.h"
#include "tools/eval/perplexity.h"
#include "tools/eval/token_windows.h"
#include "tools/measure/bench.h"

namespace rankine {
namespace {

// Of the dense model's states in all texts: 900 windows of SmolLM2, 120 of a model of 4096 columns.
constexpr int64_t kDenseStateBytes = int64_t{1} << 30;

Estimate PerplexityEstimate(double value, std::optional<double> error) {
  return {.value = value, .standard_error = error};
}

// Of the dense model against itself.
TextResult FromPerplexity(const std::string& name, const PerplexityResult& result) {
  const Estimate nothing{.value = 0, .standard_error = 0.0};
  return {.text = name,
          .perplexity = PerplexityEstimate(result.perplexity, result.standard_error),
          .log_difference = nothing,
          .kl = nothing,
          .kl_p99 = nothing,
          .top1 = {.value = 1, .standard_error = 0.0},
          .tokens = result.tokens,
          .windows = result.windows};
}

TextResult FromFidelity(const std::string& name, const FidelityResult& result) {
  return {.text = name,
          .perplexity = PerplexityEstimate(result.perplexity, result.standard_error),
          .log_difference = result.log_perplexity_difference,
          .kl = result.kl,
          .kl_p99 = result.kl_p99,
          .top1 = result.top1,
          .tokens = result.tokens,
          .windows = result.windows};
}

// A part of `progress`, under the name of the text.
ProgressFn PartOf(const ProgressFn& progress, size_t index, size_t count, const std::string& what) {
  if (!progress) return {};
  return [=](const Progress& p) {
    Progress part = p;
    part.fraction = (static_cast<double>(index) + p.fraction) / static_cast<double>(count);
    part.eta_seconds = 0;
    part.text = absl::StrCat(what, ", ", p.text);
    return progress(part);
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<FactoredModel>> Evaluator::Load(const Checkpoint& checkpoint) const {
  RK_ASSIGN_OR_RETURN(std::unique_ptr<FactoredModel> model,
                      LoadModel(checkpoint, *options_.device, options_.load));
  if (!model->shape().is_encoder) return model;
  return absl::InvalidArgumentError(
      "the model is an encoder, which predicts no next token; explore compares decoders by "
      "perplexity (an encoder: rankine eval --probe)");
}

absl::StatusOr<std::unique_ptr<Evaluator>> Evaluator::Create(const Checkpoint& dense,
                                                             const EvaluatorOptions& options) {
  auto evaluator = std::unique_ptr<Evaluator>(new Evaluator);
  evaluator->options_ = options;
  RK_ASSIGN_OR_RETURN(evaluator->dense_, evaluator->Load(dense));
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer, TokenizerOf(dense));
  Fingerprint digest;
  digest.Add(options.context);
  for (const EvaluationText& text : options.texts) {
    RK_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, ReadTextTokens(*tokenizer, {text.path}));
    const auto windows = EvaluationWindows(tokens, options.context, text.windows);
    if (!windows.ok()) {
      return absl::Status(windows.status().code(),
                          absl::StrCat(text.path, ": ", windows.status().message()));
    }
    digest.Add(text.windows);
    digest.Add(TokensFingerprint(tokens));
    evaluator->texts_.push_back({.name = text.name,
                                 .windows = text.windows,
                                 .tokens = std::move(tokens),
                                 .dense_states = {}});
  }
  evaluator->texts_digest_ = digest.Hex();
  return evaluator;
}

absl::StatusOr<SpeedResult> Evaluator::Speed(const FactoredModel& model) const {
  RK_ASSIGN_OR_RETURN(const DType dense_kv_dtype, options_.kv_dtype(*dense_));
  std::vector<BenchSubject> subjects = {
      {.path = "the dense model", .model = dense_.get(), .kv_dtype = dense_kv_dtype}};
  if (&model != dense_.get()) {
    RK_ASSIGN_OR_RETURN(const DType kv_dtype, options_.kv_dtype(model));
    subjects.push_back({.path = "the point", .model = &model, .kv_dtype = kv_dtype});
  }
  const SpeedOptions& speed = options_.speed;
  RK_ASSIGN_OR_RETURN(const BenchReport report,
                      RunBench(subjects, {.prompt_tokens = speed.prompt_tokens,
                                          .new_tokens = speed.new_tokens,
                                          .repeat = speed.repeat}));
  const BenchResult& result = report.models.back();
  return SpeedResult{.prefill_tokens_per_second = result.prefill_tokens_per_second,
                     .decode_tokens_per_second = result.decode_tokens_per_second,
                     .prefill_ratio = result.prefill_ratio,
                     .decode_ratio = result.decode_ratio,
                     .weight_bytes_per_token = result.weight_bytes_per_token};
}

absl::StatusOr<TextResult> Evaluator::LossesOf(Text& text, const FactoredModel& model,
                                               DType kv_dtype, const ProgressFn& progress) const {
  const PerplexityOptions perplexity{
      .context = options_.context, .max_windows = text.windows, .kv_dtype = kv_dtype};
  if (&model == dense_.get()) {
    RK_ASSIGN_OR_RETURN(const PerplexityResult result,
                        Perplexity(model, text.tokens, perplexity, progress));
    return FromPerplexity(text.name, result);
  }
  const auto share = kDenseStateBytes / static_cast<int64_t>(texts_.size());
  PassStates& states = text.dense_states.try_emplace(kv_dtype, share).first->second;
  RK_ASSIGN_OR_RETURN(const FidelityResult result,
                      CompareWithDense(model, *dense_, text.tokens, perplexity, progress, &states));
  return FromFidelity(text.name, result);
}

absl::StatusOr<std::vector<TextResult>> Evaluator::Losses(const FactoredModel& model,
                                                          const ProgressFn& progress) {
  RK_ASSIGN_OR_RETURN(const DType kv_dtype, options_.kv_dtype(model));
  std::vector<TextResult> results;
  for (size_t i = 0; i < texts_.size(); ++i) {
    RK_ASSIGN_OR_RETURN(
        TextResult result,
        LossesOf(texts_[i], model, kv_dtype, PartOf(progress, i, texts_.size(), texts_[i].name)));
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace rankine
