#include "serving/generate_reactor.h"

#include <utility>

#include "serving/convert.h"

namespace rankine {
namespace {

grpc::Status StatusOf(const Piece& last) {
  switch (last.finish_reason) {
    case FinishReason::kCancelled:  // not by the client: that never gets here
      return grpc::Status(grpc::StatusCode::UNAVAILABLE,
                          "the server is shutting down: the answer is not complete");
    case FinishReason::kError:
      return grpc::Status(grpc::StatusCode::INTERNAL, last.error);
    default:
      return grpc::Status::OK;
  }
}

}  // namespace

GenerateReactor* GenerateReactor::Start(ServingContext& context,
                                        const v1::GenerateRequest& request) {
  const std::shared_ptr<GenerateReactor> self(new GenerateReactor(context));
  self->self_ = self;
  self->registered_ = context.calls.Add(self);
  if (!self->registered_) {
    self->FinishWith(absl::UnavailableError("the server is draining: send the request elsewhere"));
    return self.get();
  }
  GenerateParams params = FromProto(request);
  if (PromptTextBytes(params.prompt) <= context.inline_text_bytes) {
    self->Begin(params);
  } else if (!context.encode_pool.Submit(
                 [self, params = std::move(params)] { self->Begin(params); })) {
    self->FinishWith(
        absl::ResourceExhaustedError("too many long prompts are waiting: retry later"));
  }
  return self.get();
}

GenerateReactor::~GenerateReactor() {
  if (registered_) context_.calls.Remove(this);
}

void GenerateReactor::Begin(const GenerateParams& params) {
  {
    MutexLock lock(mutex_);
    if (cancelled_ || aborted_) return;  // finished already
  }
  std::weak_ptr<GenerateReactor> weak = weak_from_this();
  absl::StatusOr<std::unique_ptr<Session>> session =
      Session::Start(context_.engine, context_.codec, context_.limits, params, [weak] {
        if (std::shared_ptr<GenerateReactor> self = weak.lock()) self->Schedule();
      });
  if (!session.ok()) return FinishWith(session.status());
  {
    MutexLock lock(mutex_);
    if (cancelled_ || aborted_) (*session)->Cancel();
    // After OnDone nobody would end it; a session cancels what it leaves behind.
    if (!finish_started_) session_ = *std::move(session);
  }
  Schedule();  // what came before session_ was set
}

void GenerateReactor::Schedule() {
  if (scheduled_.exchange(true)) return;
  // Never full: see ServingContext.
  (void)context_.stream_pool.Submit([self = shared_from_this()] { self->Pump(); });
}

void GenerateReactor::Pump() {
  scheduled_.store(false);  // before Poll: what is published from here on schedules again
  Action action;
  bool failed;
  {
    MutexLock lock(mutex_);
    if (session_ == nullptr || finish_started_) return;
    // Polls even while a write is under way, so that stop strings end the request at once.
    session_->Poll(&pending_);
    failed = pending_.finish_reason == FinishReason::kError;
    action = NextLocked();
  }
  if (failed && context_.on_engine_error) context_.on_engine_error();
  Perform(action);
}

void GenerateReactor::FinishWith(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    if (finish_started_) return;
    finish_started_ = true;
    final_status_ = ToGrpc(status);
  }
  Perform(Action::kFinish);
}

GenerateReactor::Action GenerateReactor::NextLocked() {
  if (finish_started_ || write_under_way_) return Action::kNone;
  if (cancelled_) {
    finish_started_ = true;
    final_status_ = grpc::Status(grpc::StatusCode::CANCELLED, "cancelled by the client");
    return Action::kFinish;
  }
  if (aborted_ && session_ == nullptr) {
    finish_started_ = true;
    final_status_ = StatusOf(Piece{.finish_reason = FinishReason::kCancelled});
    return Action::kFinish;
  }
  if (pending_.empty()) return Action::kNone;
  ToProto(pending_, &response_);
  const Piece written = std::exchange(pending_, Piece());
  if (written.finish_reason == FinishReason::kNone) {
    write_under_way_ = true;
    return Action::kWrite;
  }
  finish_started_ = true;
  final_status_ = StatusOf(written);
  return Action::kWriteAndFinish;
}

void GenerateReactor::Perform(Action action) {
  switch (action) {
    case Action::kNone:
      return;
    case Action::kWrite:
      return StartWrite(&response_);
    case Action::kWriteAndFinish:
      return StartWriteAndFinish(&response_, grpc::WriteOptions(), final_status_);
    case Action::kFinish:
      return Finish(final_status_);
  }
}

void GenerateReactor::OnWriteDone(bool ok) {
  Action action;
  {
    MutexLock lock(mutex_);
    write_under_way_ = false;
    if (!ok) {
      cancelled_ = true;
      if (session_ != nullptr) session_->Cancel();
    }
    action = NextLocked();
  }
  Perform(action);
}

void GenerateReactor::OnCancel() {
  Action action;
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    if (session_ != nullptr) session_->Cancel();
    action = NextLocked();
  }
  Perform(action);
}

void GenerateReactor::Abort() {
  Action action;
  {
    MutexLock lock(mutex_);
    aborted_ = true;
    if (session_ != nullptr) session_->Cancel();  // its last piece ends the call
    action = NextLocked();
  }
  Perform(action);
}

void GenerateReactor::OnDone() {
  std::unique_ptr<Session> session;  // destroyed here and not on the engine's thread, see Schedule
  {
    MutexLock lock(mutex_);
    session = std::move(session_);
  }
  session.reset();
  const std::shared_ptr<GenerateReactor> self = std::move(self_);
}

}  // namespace rankine
