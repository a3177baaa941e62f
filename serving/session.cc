#include "serving/session.h"

#include <utility>

namespace rankine {

absl::StatusOr<std::unique_ptr<Session>> Session::Start(Engine& engine, const PromptCodec& codec,
                                                        const RequestLimits& limits,
                                                        const GenerateParams& params,
                                                        std::function<void()> notify) {
  absl::StatusOr<Request> request = MakeRequest(params, codec, limits);
  if (!request.ok()) return request.status();
  const int64_t prompt_tokens = static_cast<int64_t>(request->prompt.size());
  absl::StatusOr<std::shared_ptr<TokenStream>> stream =
      engine.Submit(*std::move(request), std::move(notify));
  if (!stream.ok()) return stream.status();
  return std::unique_ptr<Session>(
      new Session(engine, codec, params, *std::move(stream), prompt_tokens));
}

Session::Session(Engine& engine, const PromptCodec& codec, const GenerateParams& params,
                 std::shared_ptr<TokenStream> stream, int64_t prompt_tokens)
    : engine_(engine),
      stream_(std::move(stream)),
      text_(*codec.tokenizer, params.stop),
      prompt_tokens_(prompt_tokens) {}

Session::~Session() {
  if (!finished_) Cancel();
}

void Session::Cancel() { engine_.Cancel(stream_->id()); }

bool Session::Poll(Piece* piece) {
  TokenEvents events;
  if (finished_ || !stream_->Poll(&events)) return false;
  const bool had_stop = stop_found_;
  AddTokens(events, piece);
  if (events.finish_reason != FinishReason::kNone) {
    AddFinish(std::move(events), piece);
  } else if (stop_found_ && !had_stop) {
    engine_.Cancel(stream_->id(), FinishReason::kStopString);
  }
  return true;
}

// Tokens after the one that completed a stop string are dropped: the engine may have been one step
// ahead, which must not change the answer.
void Session::AddTokens(const TokenEvents& events, Piece* piece) {
  for (int32_t id : events.token_ids) {
    if (stop_found_) return;
    piece->token_ids.push_back(id);
    ++completion_tokens_;
    stop_found_ = text_.Append(id, &piece->text);
  }
}

void Session::AddFinish(TokenEvents events, Piece* piece) {
  finished_ = true;
  if (!stop_found_) stop_found_ = text_.Finish(&piece->text);
  piece->finish_reason = stop_found_ ? FinishReason::kStopString : events.finish_reason;
  if (!stop_found_) piece->error = std::move(events.error);
  piece->prompt_tokens = prompt_tokens_;
  piece->completion_tokens = completion_tokens_;
  piece->timing = events.timing;
}

absl::Status GenerateInProcess(Engine& engine, const PromptCodec& codec,
                               const RequestLimits& limits, const GenerateParams& params,
                               const PieceCallback& on_piece) {
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Start(engine, codec, limits, params);
  if (!session.ok()) return session.status();
  bool stopped = false;
  while (!(*session)->finished()) {
    (*session)->Wait();
    Piece piece;
    if (!(*session)->Poll(&piece)) continue;
    if (!stopped && !piece.empty() && !on_piece(piece)) {
      stopped = true;
      (*session)->Cancel();
    }
    if (piece.finish_reason == FinishReason::kError) return absl::InternalError(piece.error);
  }
  return stopped ? absl::CancelledError("the caller stopped the answer") : absl::OkStatus();
}

}  // namespace rankine
