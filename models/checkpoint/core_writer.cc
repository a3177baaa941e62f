#include "models/checkpoint/core_writer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/mutex.h"
#include "models/checkpoint/float_convert.h"
#include "models/encode/block_storage.h"
#include "models/encode/e8p_rows.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Weights in memory at a time: 8 MiB as floats, a few rows of the largest matrices.
constexpr int64_t kBlockWeights = int64_t{2} << 20;
// Weights that a thread takes at a time.
constexpr int64_t kRunWeights = int64_t{64} << 10;

class CoreWriter {
 public:
  CoreWriter(const Checkpoint& source, const CoreJob& job, ThreadPool& pool,
             SafetensorsWriter* writer)
      : source_(source), job_(job), pool_(pool), writer_(writer) {
    const std::vector<int64_t> shape = job.to.StoredShape();
    outer_ = shape.front();
    cols_ = shape.back();
    for (size_t i = 1; i + 1 < shape.size(); ++i) inner_ *= shape[i];
  }

  absl::Status Write(const BytesWritten& progress) {
    const int64_t row_weights = inner_ * cols_;
    const int64_t step = std::max<int64_t>(1, kBlockWeights / row_weights);
    if (job_.to.encoding.kind == EncodingKind::kE8P && !job_.carries_codes()) {
      RK_RETURN_IF_ERROR(FindE8PScale(step));
    }
    for (int64_t begin = 0; begin < outer_; begin += step) {
      const int64_t end = std::min(outer_, begin + step);
      int64_t bytes = 0;
      RK_RETURN_IF_ERROR(FillBlock(begin, end));
      RK_RETURN_IF_ERROR(AppendBlock(begin == 0, (end - begin) * row_weights, &bytes));
      progress(bytes);
    }
    return absl::OkStatus();
  }

  const EncodeError& error() const { return error_; }

 private:
  // What a thread works with.
  struct Scratch {
    std::vector<float> floats;
    BlockRowsBuffer blocks;
  };

  bool to_blocks() const { return !job_.to.encoding.IsFloat(); }

  // Rows [begin, end) of the first leg into blocks_ or floats_.
  absl::Status FillBlock(int64_t begin, int64_t end) {
    const int64_t row_weights = inner_ * cols_;
    if (job_.carries_codes() && to_blocks()) {
      return source_.ReadBlockRows(job_.from, begin * inner_, end * inner_, cols_, &blocks_);
    }
    if (to_blocks()) {
      ResizeBlockRows(job_.to.encoding, (end - begin) * inner_, cols_, &blocks_);
      if (job_.to.encoding.kind == EncodingKind::kE8P) blocks_.scales[0] = e8p_scale_;
    } else {
      floats_.resize(static_cast<size_t>((end - begin) * row_weights) *
                     SizeOf(job_.to.encoding.dtype));
    }
    std::vector<EncodeError> errors(static_cast<size_t>(end - begin));
    const absl::Status status = ForRuns(begin, end, [&](int64_t from, int64_t to, Scratch* s) {
      return to_blocks() ? EncodeRun(begin, from, to, s, &errors[from - begin])
                         : ConvertRun(begin, from, to, s);
    });
    // In order, so that the sums do not depend on which thread was faster.
    for (const EncodeError& e : errors) {
      error_.squared_error += e.squared_error;
      error_.squared_weights += e.squared_weights;
    }
    return status;
  }

  // Calls `work` with runs of [begin, end) in parallel, rows of the first leg each. The runs do not
  // depend on the number of threads.
  template <class Work>
  absl::Status ForRuns(int64_t begin, int64_t end, const Work& work) {
    WorkQueue queue(end - begin, std::max<int64_t>(1, kRunWeights / (inner_ * cols_)));
    Mutex mutex;
    absl::Status first_error;
    std::atomic<bool> failed{false};
    pool_.Run([&](int) {
      Scratch scratch;
      int64_t from, to;
      while (!failed && queue.Next(&from, &to)) {
        const absl::Status status = work(begin + from, begin + to, &scratch);
        if (status.ok()) continue;
        MutexLock lock(mutex);
        if (first_error.ok()) first_error = status;
        failed = true;
      }
    });
    return first_error;
  }

  // E8P has one scale for the matrix: reads all of it, `step` rows of the first leg at a time.
  absl::Status FindE8PScale(int64_t step) {
    double total = 0;
    for (int64_t begin = 0; begin < outer_; begin += step) {
      const int64_t end = std::min(outer_, begin + step);
      std::vector<double> sums(static_cast<size_t>((end - begin) * inner_));
      RK_RETURN_IF_ERROR(ForRuns(begin, end, [&](int64_t from, int64_t to, Scratch* scratch) {
        return SumRun(from, to, scratch, sums.data() + (from - begin) * inner_);
      }));
      for (const double sum : sums) total += sum;
    }
    e8p_scale_ = E8PScale(total, outer_ * inner_ * cols_);
    return absl::OkStatus();
  }

  absl::Status SumRun(int64_t begin, int64_t end, Scratch* scratch, double* sums) {
    scratch->floats.resize(static_cast<size_t>((end - begin) * inner_ * cols_));
    RK_RETURN_IF_ERROR(ReadFloats(begin, end, DType::kF32, scratch, scratch->floats.data()));
    for (int64_t r = begin * inner_; r < end * inner_; ++r) {
      const float* weights = scratch->floats.data() + (r - begin * inner_) * cols_;
      const absl::StatusOr<double> sum = SquaredWeights(weights, cols_, r);
      if (!sum.ok()) return NameTensor(sum.status());
      *sums++ = *sum;
    }
    return absl::OkStatus();
  }

  absl::Status NameTensor(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat("tensor ", job_.from.tensors[0].tensor, ": ",
                                                    status.message()));
  }

  absl::Status EncodeRun(int64_t block, int64_t begin, int64_t end, Scratch* scratch,
                         EncodeError* error) {
    scratch->floats.resize(static_cast<size_t>((end - begin) * inner_ * cols_));
    RK_RETURN_IF_ERROR(ReadFloats(begin, end, DType::kF32, scratch, scratch->floats.data()));
    RowEncoder encoder(job_.to.encoding);
    for (int64_t r = begin * inner_; r < end * inner_; ++r) {
      const float* weights = scratch->floats.data() + (r - begin * inner_) * cols_;
      const absl::Status status = encoder.Encode(weights, r - block * inner_, r, &blocks_);
      if (!status.ok()) return NameTensor(status);
    }
    *error = encoder.TakeError();
    return absl::OkStatus();
  }

  absl::Status ConvertRun(int64_t block, int64_t begin, int64_t end, Scratch* scratch) {
    const DType dtype = job_.to.encoding.dtype;
    char* out =
        floats_.data() + (begin - block) * inner_ * cols_ * static_cast<int64_t>(SizeOf(dtype));
    return ReadFloats(begin, end, dtype, scratch, out);
  }

  // Rows of the first leg as floats of `dtype`, decoded where they are blocks.
  absl::Status ReadFloats(int64_t begin, int64_t end, DType dtype, Scratch* scratch, void* out) {
    const std::string& name = job_.from.tensors[0].tensor;
    if (job_.from.encoding.IsFloat()) {
      const TensorInfo* tensor = source_.Find(name);
      if (tensor == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
      }
      return source_.ReadRows(*tensor, begin, end, dtype, out);
    }
    RK_RETURN_IF_ERROR(
        source_.ReadBlockRows(job_.from, begin * inner_, end * inner_, cols_, &scratch->blocks));
    std::vector<float> row(static_cast<size_t>(cols_));
    const int64_t row_bytes = cols_ * static_cast<int64_t>(SizeOf(dtype));
    for (int64_t r = 0; r < scratch->blocks.rows; ++r) {
      DecodeBlockRow(scratch->blocks.view(), r, row.data());
      const int64_t bad = ConvertFloats(DType::kF32, row.data(), dtype,
                                        static_cast<char*>(out) + r * row_bytes, cols_);
      if (bad < 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", name, ": the value ", row[bad], " at row ", begin * inner_ + r,
                       ", column ", bad, " does not fit in ", std::string(Name(dtype))));
    }
    return absl::OkStatus();
  }

  absl::Status AppendBlock(bool is_first, int64_t weights, int64_t* bytes) {
    if (!to_blocks()) {
      *bytes = weights * static_cast<int64_t>(SizeOf(job_.to.encoding.dtype));
      return writer_->Append(job_.to.tensors[0].tensor, floats_.data(), *bytes);
    }
    for (const BlockRole& role : BlockRoles(job_.to.encoding, cols_)) {
      if (role.row_values == 0 && !is_first) continue;  // of the matrix, not of its rows
      const std::vector<uint8_t> stored = StoreRole(blocks_.view(), role);
      const int64_t size = static_cast<int64_t>(stored.size());
      RK_RETURN_IF_ERROR(writer_->Append(job_.to.TensorOf(role.role), stored.data(), size));
      *bytes += size;
    }
    return absl::OkStatus();
  }

  const Checkpoint& source_;
  const CoreJob& job_;
  ThreadPool& pool_;
  SafetensorsWriter* writer_;
  // The core as stored: rows of a float tensor are along the first leg, those of a block-encoded
  // one along all but the last.
  int64_t outer_ = 1, inner_ = 1, cols_ = 1;
  BlockRowsBuffer blocks_;
  std::vector<char> floats_;
  float e8p_scale_ = 0;
  EncodeError error_;
};

}  // namespace

void NameTensors(const std::string& name, Core* core) {
  core->tensors.clear();
  if (core->encoding.IsFloat()) {
    core->tensors.push_back({"values", name});
    return;
  }
  for (const BlockRole& role : BlockRoles(core->encoding, core->StoredShape().back())) {
    core->tensors.push_back({role.role, absl::StrCat(name, ".", role.role)});
  }
}

std::vector<TensorSpec> SpecsOf(const Core& core) {
  const std::vector<int64_t> shape = core.StoredShape();
  if (core.encoding.IsFloat()) return {{core.TensorOf("values"), core.encoding.dtype, shape}};
  std::vector<TensorSpec> specs;
  for (const BlockRole& role : BlockRoles(core.encoding, shape.back())) {
    std::vector<int64_t> role_shape = shape;
    role_shape.back() = role.row_values;
    if (role.row_values == 0) role_shape = {1};
    specs.push_back({core.TensorOf(role.role), role.dtype, std::move(role_shape)});
  }
  return specs;
}

absl::Status WriteCore(const Checkpoint& source, const CoreJob& job, ThreadPool& pool,
                       SafetensorsWriter* writer, const BytesWritten& progress,
                       EncodeError* error) {
  CoreWriter core(source, job, pool, writer);
  RK_RETURN_IF_ERROR(core.Write(progress));
  if (error != nullptr) *error = core.error();
  return absl::OkStatus();
}

}  // namespace rankine
