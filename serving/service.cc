#include "serving/service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/convert.h"
#include "serving/generate_reactor.h"

namespace rankine {
namespace {

absl::Status Tokenize(const ServingContext& context, const v1::TokenizeRequest& request,
                      v1::TokenizeResponse* response) {
  const int64_t bytes = static_cast<int64_t>(request.text().size());
  if (bytes > context.limits.max_text_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("text: ", bytes, " bytes are over the limit of ",
                                                   context.limits.max_text_bytes));
  }
  absl::StatusOr<std::vector<int32_t>> ids = context.codec.tokenizer->Encode(
      request.text(),
      {.add_special = request.add_special(), .parse_special = request.parse_special()});
  if (!ids.ok()) return ids.status();
  response->mutable_token_ids()->Add(ids->begin(), ids->end());
  return absl::OkStatus();
}

// Refused before it is built: a few bytes of ids can stand for a very long text.
absl::Status CheckDetokenize(const ServingContext& context, const v1::DetokenizeRequest& request) {
  int64_t bytes = 0;
  for (int i = 0; i < request.token_ids_size(); ++i) {
    const int32_t id = request.token_ids(i);
    if (id < 0 || id >= context.limits.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("token_ids[", i, "]: ", id,
                                                     " is outside the vocabulary of ",
                                                     context.limits.vocab_size, " tokens"));
    }
    bytes += static_cast<int64_t>(context.codec.tokenizer->TokenBytes(id).size());
  }
  if (bytes > context.limits.max_text_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("token_ids: their text of ", bytes,
                                                   " bytes is over the limit of ",
                                                   context.limits.max_text_bytes));
  }
  return absl::OkStatus();
}

absl::Status Detokenize(const ServingContext& context, const v1::DetokenizeRequest& request,
                        v1::DetokenizeResponse* response) {
  if (absl::Status status = CheckDetokenize(context, request); !status.ok()) return status;
  response->set_text(context.codec.tokenizer->Decode(request.token_ids(), request.skip_special()));
  return absl::OkStatus();
}

// Runs `work` now when it is small, else on the pool; finishes the call with its status.
template <class Work>
grpc::ServerUnaryReactor* FinishWithWork(ServingContext& context, grpc::CallbackServerContext* call,
                                         int64_t bytes, Work work) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  if (bytes <= context.inline_text_bytes) {
    reactor->Finish(ToGrpc(work()));
  } else if (!context.encode_pool.Submit(
                 [reactor, work = std::move(work)] { reactor->Finish(ToGrpc(work())); })) {
    reactor->Finish(ToGrpc(absl::ResourceExhaustedError("too many long texts: retry later")));
  }
  return reactor;
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* /*call*/, const v1::GenerateRequest* request) {
  return GenerateReactor::Start(context_, *request);
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* call,
                                                     const v1::GetModelRequest* /*request*/,
                                                     v1::GetModelResponse* response) {
  const EngineStats stats = context_.engine.stats();
  const ModelLoad load = {.kv_blocks_total = stats.kv_blocks_total,
                          .kv_blocks_free = stats.kv_blocks_free,
                          .requests_running = stats.running,
                          .requests_waiting = stats.waiting};
  ToProto(context_.model, load, response);
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* call,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  const int64_t bytes = static_cast<int64_t>(request->text().size());
  return FinishWithWork(context_, call, bytes, [this, request, response] {
    return rankine::Tokenize(context_, *request, response);
  });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* call,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return FinishWithWork(context_, call, request->token_ids_size(), [this, request, response] {
    return rankine::Detokenize(context_, *request, response);
  });
}

}  // namespace rankine
