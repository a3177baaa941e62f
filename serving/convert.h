// Between the protobuf messages of the contract and the plain values that the rest speaks.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "rankine/v1/inference.pb.h"
#include "serving/generate.h"
#include "serving/model_description.h"

namespace rankine {

// A sampling seed that the client left out is drawn here.
GenerateParams FromProto(const v1::GenerateRequest& request);
v1::GenerateRequest ToProto(const GenerateParams& params);

Piece FromProto(const v1::GenerateResponse& response);
// Replaces *response.
void ToProto(const Piece& piece, v1::GenerateResponse* response);

ModelDescription DescriptionFromProto(const v1::GetModelResponse& response);
ModelLoad LoadFromProto(const v1::GetModelResponse& response);
void ToProto(const ModelDescription& model, const ModelLoad& load, v1::GetModelResponse* response);

// The codes of gRPC and Abseil are the same numbers.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace rankine
