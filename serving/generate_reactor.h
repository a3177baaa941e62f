// One call of Generate. Tokens that arrive while a write is under way wait in one piece, so a slow
// client gets fewer, larger messages, and nobody else notices.
#pragma once

#include <atomic>
#include <memory>

#include <grpcpp/support/server_callback.h>

#include "kernels/base/mutex.h"
#include "rankine/v1/inference.pb.h"
#include "serving/call_registry.h"
#include "serving/serving_context.h"
#include "serving/session.h"

namespace rankine {

// Owns itself from Start to OnDone; a task of a pool or a notification may hold it a little longer.
// gRPC's rules that shape it: one write at a time; exactly one Finish, even after a cancel; none
// while a write is under way.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                              public DrainableCall,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  // `request` is read before this returns. The context outlives the call (CallRegistry).
  static GenerateReactor* Start(ServingContext& context, const v1::GenerateRequest& request);
  ~GenerateReactor() override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;  // by the client, its deadline, or a lost connection
  void OnDone() override;
  void Abort() override;

 private:
  enum class Action { kNone, kWrite, kWriteAndFinish, kFinish };

  explicit GenerateReactor(ServingContext& context) : context_(context) {}

  // Encodes and submits.
  void Begin(const GenerateParams& params);
  // Has Pump called on the stream pool. Cheap: the engine's thread calls it for each token.
  void Schedule();
  // Takes what the engine has published.
  void Pump();
  void FinishWith(const absl::Status& status);
  Action NextLocked() RK_REQUIRES(mutex_);
  // Outside the lock: gRPC may react at once.
  void Perform(Action action);

  ServingContext& context_;
  std::shared_ptr<GenerateReactor> self_;
  bool registered_ = false;
  std::atomic<bool> scheduled_{false};

  Mutex mutex_;
  std::unique_ptr<Session> session_ RK_GUARDED_BY(mutex_);  // null before Begin and after OnDone
  Piece pending_ RK_GUARDED_BY(mutex_);                     // not yet written
  bool cancelled_ RK_GUARDED_BY(mutex_) = false;            // by the client
  bool aborted_ RK_GUARDED_BY(mutex_) = false;              // by the server
  bool write_under_way_ RK_GUARDED_BY(mutex_) = false;
  bool finish_started_ RK_GUARDED_BY(mutex_) = false;
  // Written under the lock, then read by gRPC until the write is done.
  v1::GenerateResponse response_;
  grpc::Status final_status_;
};

}  // namespace rankine
