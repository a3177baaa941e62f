#include "serving/convert.h"

#include <random>
#include <utility>

namespace rankine {
namespace {

uint64_t DrawSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

SamplingParams FromProto(const v1::Sampling& sampling) {
  SamplingParams params;
  params.temperature = sampling.temperature();
  params.top_k = sampling.top_k();
  if (sampling.has_top_p()) params.top_p = sampling.top_p();
  params.min_p = sampling.min_p();
  params.seed = sampling.has_seed() ? sampling.seed() : DrawSeed();
  return params;
}

void ToProto(const SamplingParams& params, v1::Sampling* sampling) {
  sampling->set_temperature(params.temperature);
  sampling->set_top_k(params.top_k);
  sampling->set_top_p(params.top_p);
  sampling->set_min_p(params.min_p);
  sampling->set_seed(params.seed);
}

Prompt PromptFromProto(const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return TextPrompt{.text = request.text(), .parse_special = request.parse_special()};
    case v1::GenerateRequest::kChat: {
      std::vector<ChatMessage> messages;
      for (const v1::Message& message : request.chat().messages()) {
        messages.push_back({.role = message.role(), .content = message.content()});
      }
      return messages;
    }
    case v1::GenerateRequest::kTokens:
      return std::vector<int32_t>(request.tokens().ids().begin(), request.tokens().ids().end());
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return std::monostate();
}

void ToProto(const Prompt& prompt, v1::GenerateRequest* request) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    request->set_text(text->text);
    request->set_parse_special(text->parse_special);
  } else if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt)) {
    v1::Chat* chat = request->mutable_chat();
    for (const ChatMessage& message : *messages) {
      v1::Message* out = chat->add_messages();
      out->set_role(message.role);
      out->set_content(message.content);
    }
  } else if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    request->mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
  }
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStopToken:
      return v1::FINISH_REASON_STOP_TOKEN;
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP_STRING;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

FinishReason FromProto(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP_TOKEN:
      return FinishReason::kStopToken;
    case v1::FINISH_REASON_STOP_STRING:
      return FinishReason::kStopString;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_CANCELLED:
      return FinishReason::kCancelled;
    case v1::FINISH_REASON_ERROR:
      return FinishReason::kError;
    default:
      return FinishReason::kNone;
  }
}

}  // namespace

GenerateParams FromProto(const v1::GenerateRequest& request) {
  GenerateParams params;
  params.prompt = PromptFromProto(request);
  params.max_tokens = request.max_tokens();
  params.sampling = FromProto(request.sampling());
  params.stop.assign(request.stop().begin(), request.stop().end());
  params.stop_token_ids.assign(request.stop_token_ids().begin(), request.stop_token_ids().end());
  params.ignore_eos = request.ignore_eos();
  return params;
}

v1::GenerateRequest ToProto(const GenerateParams& params) {
  v1::GenerateRequest request;
  ToProto(params.prompt, &request);
  request.set_max_tokens(static_cast<int32_t>(params.max_tokens));
  ToProto(params.sampling, request.mutable_sampling());
  for (const std::string& stop : params.stop) request.add_stop(stop);
  request.mutable_stop_token_ids()->Add(params.stop_token_ids.begin(), params.stop_token_ids.end());
  request.set_ignore_eos(params.ignore_eos);
  return request;
}

Piece FromProto(const v1::GenerateResponse& response) {
  Piece piece;
  piece.token_ids.assign(response.token_ids().begin(), response.token_ids().end());
  piece.text = response.text();
  piece.finish_reason = FromProto(response.finish_reason());
  piece.prompt_tokens = response.usage().prompt_tokens();
  piece.completion_tokens = response.usage().completion_tokens();
  piece.timing = {.queue_us = response.timing().queue_us(),
                  .first_token_us = response.timing().first_token_us(),
                  .total_us = response.timing().total_us()};
  return piece;
}

void ToProto(const Piece& piece, v1::GenerateResponse* response) {
  response->Clear();
  response->mutable_token_ids()->Add(piece.token_ids.begin(), piece.token_ids.end());
  response->set_text(piece.text);
  response->set_finish_reason(ToProto(piece.finish_reason));
  if (piece.finish_reason == FinishReason::kNone) return;
  response->mutable_usage()->set_prompt_tokens(static_cast<int32_t>(piece.prompt_tokens));
  response->mutable_usage()->set_completion_tokens(static_cast<int32_t>(piece.completion_tokens));
  response->mutable_timing()->set_queue_us(piece.timing.queue_us);
  response->mutable_timing()->set_first_token_us(piece.timing.first_token_us);
  response->mutable_timing()->set_total_us(piece.timing.total_us);
}

ModelDescription DescriptionFromProto(const v1::GetModelResponse& response) {
  return {.name = response.name(),
          .architecture = response.architecture(),
          .num_layers = response.num_layers(),
          .hidden_size = response.hidden_size(),
          .vocab_size = response.vocab_size(),
          .context_length = response.context_length(),
          .compute = response.compute(),
          .kv_dtype = response.kv_dtype(),
          .method = response.method(),
          .weight_bytes = response.weight_bytes(),
          .weight_bytes_per_token = response.weight_bytes_per_token(),
          .version = response.version(),
          .chat_format = response.chat_format(),
          .device = response.device()};
}

ModelLoad LoadFromProto(const v1::GetModelResponse& response) {
  return {.kv_blocks_total = response.kv_blocks_total(),
          .kv_blocks_free = response.kv_blocks_free(),
          .requests_running = response.requests_running(),
          .requests_waiting = response.requests_waiting()};
}

void ToProto(const ModelDescription& model, const ModelLoad& load, v1::GetModelResponse* response) {
  response->set_name(model.name);
  response->set_architecture(model.architecture);
  response->set_num_layers(static_cast<int32_t>(model.num_layers));
  response->set_hidden_size(static_cast<int32_t>(model.hidden_size));
  response->set_vocab_size(static_cast<int32_t>(model.vocab_size));
  response->set_context_length(static_cast<int32_t>(model.context_length));
  response->set_compute(model.compute);
  response->set_kv_dtype(model.kv_dtype);
  response->set_method(model.method);
  response->set_weight_bytes(model.weight_bytes);
  response->set_weight_bytes_per_token(model.weight_bytes_per_token);
  response->set_version(model.version);
  response->set_chat_format(model.chat_format);
  response->set_device(model.device);
  response->set_kv_blocks_total(static_cast<int32_t>(load.kv_blocks_total));
  response->set_kv_blocks_free(static_cast<int32_t>(load.kv_blocks_free));
  response->set_requests_running(static_cast<int32_t>(load.requests_running));
  response->set_requests_waiting(static_cast<int32_t>(load.requests_waiting));
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()),
                      std::string(status.message()));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace rankine
