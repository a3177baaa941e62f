// rankine eval MODEL --probe FILE: a probing classifier on the embeddings of an encoder.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "tools/cli/embedding_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/eval/probe.h"

namespace CLI {
class App;
}

namespace rankine {

struct ProbeFlags {
  std::string file;       // empty = no probe
  std::string test_file;  // empty = cross-validation
  EmbeddingFlags embedding;
  ProbeOptions options;

  void AddTo(CLI::App& command);
};

// `against`: another model to compare embeddings and accuracy with; empty = none.
absl::Status EvalProbe(const std::string& model, const std::string& against,
                       const ModelFlags& model_flags, const ProbeFlags& flags, bool json);

}  // namespace rankine
