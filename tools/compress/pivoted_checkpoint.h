// A checkpoint with its U V and U S V matrices in pivoted form (pivot.h), for `rankine convert
// --pivot`: what ConvertModel reads through it, it writes.
//
// Opening it chooses the pivots of every matrix and the error that the stored form will have; P and
// C are made again when they are read, a matrix at a time, so that memory holds one matrix and not
// a model.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/convert.h"
#include "tools/compress/pivot.h"

namespace rankine {

struct PivotReport {
  std::string linear;
  int64_t rank = 0;
  // Numbers of the factors and of the pivoted form.
  int64_t parameters_before = 0, parameters = 0;
  double error = 0;  // of the form as stored, relative to the product of the factors
  std::string kept;  // why the matrix is kept as it was; empty = it is pivoted
};

struct PivotOptions {
  // Matrices whose error would be larger are kept as they were. Absent: 16 times the unit roundoff
  // of a float dtype (QR pivots cost about 4), 0.1 for block encodings.
  std::optional<double> max_error;
};

// Hears the matrices done and all of them.
using PivotProgress = std::function<void(int64_t done, int64_t total)>;

class PivotedCheckpoint : public Checkpoint {
 public:
  // `source` must outlive it. `convert` says how the cores will be stored. kFailedPrecondition: no
  // matrix is of the form U V, or one is block-encoded and nothing says how to encode it again.
  static absl::StatusOr<std::unique_ptr<PivotedCheckpoint>> Open(
      const Checkpoint& source, const ConvertOptions& convert, const PivotOptions& options,
      const PivotProgress& progress = nullptr);

  // Every factored matrix but dense ones, in order.
  const std::vector<PivotReport>& report() const { return report_; }

  const ModelConfig& config() const override { return source_.config(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override;
  absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override {
    return source_.ReadBlockRows(core, row_begin, row_end, cols, out);
  }
  absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                       void* out) const override;
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return source_.folder(); }
  const GgufVocabulary* gguf_vocabulary() const override { return source_.gguf_vocabulary(); }

 private:
  // A matrix that is pivoted, and its new tensors.
  struct Entry {
    const FactoredMatrix* original = nullptr;
    Encoding stored;
    std::vector<int64_t> pivots;
    std::vector<int32_t> positions;
  };
  enum class Part : uint8_t { kC, kP, kRows };
  struct Owned {
    const Entry* entry = nullptr;
    Part part = Part::kC;
  };

  explicit PivotedCheckpoint(const Checkpoint& source) : source_(source) {}
  absl::Status Pivot(const ConvertOptions& convert, const PivotOptions& options,
                     const PivotProgress& progress);
  // One matrix; an error only where reading fails.
  absl::Status Try(const FactoredMatrix& matrix, const PivotOptions& options, Entry* entry,
                   PivotReport* report) const;
  void Replace(const Entry& entry, const PivotReport& report, FactoredMatrix* matrix);

  const Checkpoint& source_;
  std::vector<FactoredMatrix> factored_;
  std::vector<PivotReport> report_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, Owned, std::less<>> owned_;
  // What was made last.
  mutable Mutex mutex_;
  mutable const Entry* made_for_ = nullptr;
  mutable PivotedMatrix made_;
};

}  // namespace rankine
