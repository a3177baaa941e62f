// Talks to a Rankine server: what `rankine client` and `rankine chat ADDRESS` use.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/generate.h"
#include "serving/model_description.h"

namespace rankine {

struct ClientOptions {
  int64_t connect_timeout_ms = 5000;
  int64_t deadline_ms = 0;  // of one Generate; 0 = none
};

struct ServedModel {
  ModelDescription model;
  ModelLoad load;
};

// Thread-safe.
class Client {
 public:
  // Asks for the model, so that a wrong address fails here. kUnavailable: nobody listens there,
  // with the reason. kUnimplemented: it is not a Rankine server.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address,
                                                         const ClientOptions& options = {});
  ~Client();

  // Blocks until the answer is complete. Pieces arrive on this thread; a callback that returns
  // false cancels the call, which then returns kCancelled. Errors are the server's.
  absl::Status Generate(const GenerateParams& params, const PieceCallback& on_piece);

  absl::StatusOr<ServedModel> GetModel();
  absl::StatusOr<std::vector<int32_t>> Tokenize(std::string_view text, bool add_special,
                                                bool parse_special);
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& token_ids, bool skip_special);

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Connect and Generate in one.
absl::Status StreamGenerate(const std::string& address, const GenerateParams& params,
                            const PieceCallback& on_piece, const ClientOptions& options = {});

}  // namespace rankine
