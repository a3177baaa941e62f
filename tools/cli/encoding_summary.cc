#include "tools/cli/encoding_summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "models/encode/encoding_name.h"
#include "tools/cli/output.h"

namespace rankine {
namespace {

class Summarizer {
 public:
  explicit Summarizer(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  EncodingSummary Run() {
    for (const FactoredMatrix& matrix : checkpoint_.factored()) AddMatrix(matrix);
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      if (tensor.shape.size() == 2 && !counted_.contains(tensor.name)) AddDense(tensor);
    }
    for (auto& [key, use] : uses_) summary_.uses.push_back(std::move(use));
    std::stable_sort(summary_.uses.begin(), summary_.uses.end(),
                     [](const EncodingUse& a, const EncodingUse& b) { return a.bytes > b.bytes; });
    return std::move(summary_);
  }

 private:
  // Of a tensor that no matrix has counted yet; a core may be shared.
  int64_t TakeBytes(const std::string& name) {
    const TensorInfo* tensor = checkpoint_.Find(name);
    return tensor != nullptr && counted_.insert(name).second ? tensor->stored_bytes : 0;
  }

  void Add(const std::string& encoding, const std::string& ggml, int64_t numbers, int64_t bytes) {
    EncodingUse& use = uses_[{encoding, ggml}];
    use.encoding = encoding;
    use.ggml = ggml;
    ++use.cores;
    use.numbers += numbers;
    use.bytes += bytes;
    summary_.bytes += bytes;
  }

  void AddMatrix(const FactoredMatrix& matrix) {
    summary_.weights += matrix.out_features * matrix.in_features;
    for (const Term& term : matrix.terms) {
      for (const Core& core : term.cores) {
        int64_t numbers = 1, bytes = 0;
        for (const int64_t extent : core.StoredShape()) numbers *= extent;
        for (const CoreTensor& tensor : core.tensors) bytes += TakeBytes(tensor.tensor);
        if (bytes > 0) Add(EncodingName(core.encoding), "", numbers, bytes);
      }
    }
    for (const auto* transforms : {&matrix.input_transforms, &matrix.output_transforms}) {
      for (const Transform& transform : *transforms) {
        summary_.bytes += TakeBytes(transform.tensor) + TakeBytes(transform.block_tensor);
      }
    }
  }

  void AddDense(const TensorInfo& tensor) {
    const int64_t weights = tensor.shape[0] * tensor.shape[1];
    summary_.weights += weights;
    if (tensor.natural_encoding) {
      Add(EncodingName(*tensor.natural_encoding), tensor.stored_type, weights, tensor.stored_bytes);
    } else {
      Add(std::string(Name(tensor.natural_dtype)), "", weights, tensor.stored_bytes);
    }
  }

  const Checkpoint& checkpoint_;
  std::set<std::string> counted_;
  std::map<std::pair<std::string, std::string>, EncodingUse> uses_;
  EncodingSummary summary_;
};

}  // namespace

EncodingSummary SummarizeEncodings(const Checkpoint& checkpoint) {
  return Summarizer(checkpoint).Run();
}

std::string EncodingTable(const EncodingSummary& summary) {
  std::string out = absl::StrFormat("%-24s %6s %14s %12s %10s\n", "encoding", "cores", "numbers",
                                    "bytes", "bits each");
  for (const EncodingUse& use : summary.uses) {
    absl::StrAppendFormat(&out, "%-24s %6d %14d %12s %10.3f\n",
                          use.ggml.empty() ? use.encoding : use.encoding + " (" + use.ggml + ")",
                          use.cores, use.numbers, FormatBytes(static_cast<double>(use.bytes)),
                          use.bits_per_number());
  }
  absl::StrAppendFormat(&out, "%.3f bits per weight of the matrices, everything counted\n",
                        summary.bits_per_weight());
  return out;
}

}  // namespace rankine
