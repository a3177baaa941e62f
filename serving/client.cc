#include "serving/client.h"

#include <grpcpp/create_channel.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rankine/v1/inference.grpc.pb.h"
#include "serving/convert.h"
#include "serving/grpc_log.h"

namespace rankine {
namespace {

void SetDeadline(grpc::ClientContext* call, int64_t milliseconds) {
  if (milliseconds <= 0) return;
  call->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(milliseconds));
}

}  // namespace

class Client::Impl {
 public:
  Impl(const std::string& address, const ClientOptions& options) : options_(options) {
    QuietGrpcLog();
    grpc::ChannelArguments arguments;
    // The floor of gRPC's time to connect, 20 s unless told.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                     static_cast<int>(options.connect_timeout_ms));
    // A proxy for web pages has no business between a user and a model server.
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::Inference::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  v1::Inference::Stub& stub() { return *stub_; }
  const ClientOptions& options() const { return options_; }

 private:
  const ClientOptions options_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address,
                                                        const ClientOptions& options) {
  std::unique_ptr<Client> client(new Client(std::make_unique<Impl>(address, options)));
  const absl::Status status = client->GetModel().status();
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return client;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return absl::UnavailableError(
          absl::StrCat("cannot reach a server at ", address, ": ", status.message()));
    case absl::StatusCode::kUnimplemented:
      return absl::UnimplementedError(absl::StrCat(address, " is not a Rankine server"));
    default:
      return status;
  }
}

absl::Status Client::Generate(const GenerateParams& params, const PieceCallback& on_piece) {
  grpc::ClientContext call;
  SetDeadline(&call, impl_->options().deadline_ms);
  const auto reader = impl_->stub().Generate(&call, ToProto(params));
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (on_piece(FromProto(response))) continue;
    call.TryCancel();
    while (reader->Read(&response)) {
    }
    // Whatever the server says: the last message may have been on its way.
    reader->Finish();
    return absl::CancelledError("the caller stopped the answer");
  }
  return FromGrpc(reader->Finish());
}

absl::StatusOr<ServedModel> Client::GetModel() {
  grpc::ClientContext call;
  SetDeadline(&call, impl_->options().connect_timeout_ms);
  v1::GetModelResponse response;
  const absl::Status status = FromGrpc(impl_->stub().GetModel(&call, {}, &response));
  if (!status.ok()) return status;
  return ServedModel{.model = DescriptionFromProto(response), .load = LoadFromProto(response)};
}

absl::StatusOr<std::vector<int32_t>> Client::Tokenize(std::string_view text, bool add_special,
                                                      bool parse_special) {
  grpc::ClientContext call;
  v1::TokenizeRequest request;
  request.set_text(std::string(text));
  request.set_add_special(add_special);
  request.set_parse_special(parse_special);
  v1::TokenizeResponse response;
  const absl::Status status = FromGrpc(impl_->stub().Tokenize(&call, request, &response));
  if (!status.ok()) return status;
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

absl::StatusOr<std::string> Client::Detokenize(const std::vector<int32_t>& token_ids,
                                               bool skip_special) {
  grpc::ClientContext call;
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Add(token_ids.begin(), token_ids.end());
  request.set_skip_special(skip_special);
  v1::DetokenizeResponse response;
  const absl::Status status = FromGrpc(impl_->stub().Detokenize(&call, request, &response));
  if (!status.ok()) return status;
  return response.text();
}

absl::Status StreamGenerate(const std::string& address, const GenerateParams& params,
                            const PieceCallback& on_piece, const ClientOptions& options) {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(address, options);
  if (!client.ok()) return client.status();
  return (*client)->Generate(params, on_piece);
}

}  // namespace rankine
