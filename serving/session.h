// The text side of one request: the prompt becomes tokens, tokens become text, stop strings end the
// request. The server has one per call; generation in process uses the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "serving/generate.h"
#include "serving/prompt.h"
#include "serving/text_stream.h"

namespace rankine {

// Not thread-safe, but for Cancel. The engine and the tokenizer must outlive it.
class Session {
 public:
  // Checks, encodes and submits. `notify` is called on the engine thread when Poll has something
  // new, perhaps before Start returns; it must neither block nor call the engine or the session.
  // Errors: those of MakeRequest and of Engine::Submit.
  static absl::StatusOr<std::unique_ptr<Session>> Start(Engine& engine, const PromptCodec& codec,
                                                        const RequestLimits& limits,
                                                        const GenerateParams& params,
                                                        std::function<void()> notify = {});
  // Cancels what still runs.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Adds everything pending to *piece; false when there was nothing. A stop string ends the request
  // in the engine. After a piece with a finish reason nothing follows.
  bool Poll(Piece* piece);
  // Blocks until the engine has something new.
  void Wait() { stream_->Wait(); }
  // Thread-safe. The last piece comes within one engine step.
  void Cancel();

  bool finished() const { return finished_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  Session(Engine& engine, const PromptCodec& codec, const GenerateParams& params,
          std::shared_ptr<TokenStream> stream, int64_t prompt_tokens);

  void AddTokens(const TokenEvents& events, Piece* piece);
  void AddFinish(TokenEvents events, Piece* piece);

  Engine& engine_;
  std::shared_ptr<TokenStream> stream_;
  TextStream text_;
  int64_t prompt_tokens_;
  int64_t completion_tokens_ = 0;
  bool stop_found_ = false;
  bool finished_ = false;
};

// Generates in process: blocks until the request ends. kCancelled when the callback returned false,
// after which it gets no piece; kInternal for the finish reason kError; OK for any other.
absl::Status GenerateInProcess(Engine& engine, const PromptCodec& codec,
                               const RequestLimits& limits, const GenerateParams& params,
                               const PieceCallback& on_piece);

}  // namespace rankine
