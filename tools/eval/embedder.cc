#include "tools/eval/embedder.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

// Texts of a pass: sentences of 8 tokens still fill it.
constexpr int64_t kPassTexts = 64;

}  // namespace

absl::StatusOr<Embedder> Embedder::Create(const Model& model, const Tokenizer& tokenizer,
                                          const EmbeddingConfig& config) {
  if (!model.shape().is_encoder) {
    return absl::InvalidArgumentError(
        "the model is not an encoder (such as bert): it has no text embeddings");
  }
  if (config.max_tokens < 3 || config.max_tokens > model.shape().max_position) {
    return absl::InvalidArgumentError(absl::StrCat("texts of ", config.max_tokens,
                                                   " tokens: use 3 to the model's ",
                                                   model.shape().max_position, " positions"));
  }
  Embedder embedder;
  embedder.model_ = &model;
  embedder.tokenizer_ = &tokenizer;
  embedder.config_ = config;
  RK_ASSIGN_OR_RETURN(const std::vector<int32_t> nothing, tokenizer.Encode("", {}));
  if (nothing.size() > 1) embedder.suffix_ = nothing.back();
  embedder.pass_tokens_ = std::max(kPassTokens, config.max_tokens);
  RK_ASSIGN_OR_RETURN(embedder.workspace_, model.NewWorkspace({.max_tokens = embedder.pass_tokens_,
                                                               .max_context = config.max_tokens,
                                                               .max_sequences = kPassTexts}));
  return embedder;
}

absl::StatusOr<std::vector<int32_t>> Embedder::Tokens(const std::string& text, int64_t index,
                                                      Embeddings* embeddings) const {
  RK_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer_->Encode(text, {}));
  if (ids.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("text ", index, " has no tokens"));
  }
  for (const int32_t id : ids) {
    if (id >= 0 && id < model_->shape().vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("text ", index, ": token ", id, " is outside the model's vocabulary of ",
                     model_->shape().vocab_size, ": not its tokenizer"));
  }
  if (static_cast<int64_t>(ids.size()) > config_.max_tokens) {
    ids.resize(static_cast<size_t>(config_.max_tokens));
    if (suffix_) ids.back() = *suffix_;  // it stays, as sentence-transformers has it
    ++embeddings->truncated;
  }
  embeddings->tokens.push_back(static_cast<int64_t>(ids.size()));
  return ids;
}

void Embedder::Pool(const AttentionSequence& sequence, float* out) const {
  const MatrixView hidden = workspace_->hidden();
  const int64_t rows = config_.pooling == Pooling::kCls ? 1 : sequence.num_tokens;
  std::vector<double> sum(static_cast<size_t>(hidden.cols));
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = hidden.Row<float>(sequence.first_row + r);
    for (int64_t i = 0; i < hidden.cols; ++i) sum[i] += row[i];
  }
  double divisor = static_cast<double>(rows);
  if (config_.normalize) {
    double squares = 0;
    for (const double v : sum) squares += v * v;
    divisor = squares > 0 ? std::sqrt(squares) : 1;
  }
  for (int64_t i = 0; i < hidden.cols; ++i) out[i] = static_cast<float>(sum[i] / divisor);
}

absl::Status Embedder::RunPass(Embeddings* embeddings) {
  Forward(*model_, batch_, nullptr, *workspace_);
  for (const AttentionSequence& sequence : batch_.sequences) {
    const int64_t index = embeddings->count++;
    embeddings->values.resize(static_cast<size_t>(embeddings->count * embeddings->dim));
    float* out = embeddings->values.data() + index * embeddings->dim;
    Pool(sequence, out);
    if (!std::all_of(out, out + embeddings->dim, [](float v) { return std::isfinite(v); })) {
      return absl::DataLossError(
          absl::StrCat("the embedding of text ", index, " is not finite: the model is damaged"));
    }
  }
  batch_.Clear();
  return absl::OkStatus();
}

absl::StatusOr<Embeddings> Embedder::Embed(absl::Span<const std::string> texts,
                                           const ProgressFn& progress) {
  Embeddings embeddings{.dim = model_->shape().hidden_size};
  const ProgressReporter reporter(progress);
  const auto total = static_cast<int64_t>(texts.size());
  batch_.Clear();
  for (int64_t i = 0; i < total; ++i) {
    RK_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Tokens(texts[i], i, &embeddings));
    const auto count = static_cast<int64_t>(ids.size());
    const bool full = batch_.num_tokens() + count > pass_tokens_ ||
                      static_cast<int64_t>(batch_.sequences.size()) == kPassTexts;
    if (full) {
      RK_RETURN_IF_ERROR(RunPass(&embeddings));
      RK_RETURN_IF_ERROR(reporter.Report(static_cast<double>(i) / static_cast<double>(total),
                                         absl::StrCat("text ", i, " of ", total)));
    }
    batch_.AddSequence(ids.data(), count, 0, nullptr);
  }
  if (batch_.num_tokens() > 0) RK_RETURN_IF_ERROR(RunPass(&embeddings));
  return embeddings;
}

}  // namespace rankine
