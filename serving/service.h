// The methods of rankine.v1.Inference.
#pragma once

#include "rankine/v1/inference.grpc.pb.h"
#include "serving/serving_context.h"

namespace rankine {

// Thread-safe. The context outlives it.
class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(ServingContext& context) : context_(context) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* call, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* call,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;

 private:
  ServingContext& context_;
};

}  // namespace rankine
