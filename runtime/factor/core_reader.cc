#include "runtime/factor/core_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/factor/block_reader.h"

namespace rankine {
namespace {

int LegNumber(const TermLegs& legs, const std::string& name) {
  return static_cast<int>(std::find(legs.names.begin(), legs.names.end(), name) -
                          legs.names.begin());
}

std::vector<int> StoredOrder(const TermLegs& legs, const Core& core) {
  std::vector<int> result;
  for (const LegRange& leg : core.legs) result.push_back(LegNumber(legs, leg.name));
  return result;
}

std::vector<int> RowLegs(const LoweredStep& step) {
  std::vector<int> legs = step.front_legs;
  legs.insert(legs.end(), step.back_legs.begin(), step.back_legs.end());
  return legs;
}

// Rounds to `dtype` and stores at out[index]; the value that is now there.
float StoreRounded(float value, DType dtype, void* out, int64_t index) {
  switch (dtype) {
    case DType::kF16:
      return ToFloat(static_cast<F16*>(out)[index] = ToF16(value));
    case DType::kBF16:
      return ToFloat(static_cast<BF16*>(out)[index] = ToBF16(value));
    default:
      return static_cast<float*>(out)[index] = value;
  }
}

MatrixView RowsView(std::vector<char>& data, DType dtype, int64_t rows, int64_t cols,
                    int64_t first) {
  return {.data = data.data() + first * cols * static_cast<int64_t>(SizeOf(dtype)),
          .dtype = dtype,
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

// Rows of a float tensor, each of which is `rows_per_row` rows of W.
class StreamedRows : public CoreReader {
 public:
  StreamedRows(const CorePart& part, std::string tensor, int64_t first_row, int64_t rows_per_row,
               DType dtype, const TensorSource& source)
      : part_(part),
        tensor_(std::move(tensor)),
        first_row_(first_row),
        rows_per_row_(rows_per_row),
        dtype_(dtype),
        source_(source) {}

  absl::Status PackRows(const OpTable& ops, int64_t begin, int64_t end,
                        const PackedCore& core) const override {
    const int64_t first = begin / rows_per_row_, last = CeilDiv(end, rows_per_row_);
    const int64_t cols = part_.step.k * rows_per_row_;
    std::vector<char> rows((last - first) * cols * static_cast<int64_t>(SizeOf(dtype_)));
    auto status =
        source_.ReadRows(tensor_, first_row_ + first, first_row_ + last, cols, dtype_, rows.data());
    if (!status.ok()) return status;
    ops.pack_rows(
        {.source = RowsView(rows, dtype_, end - begin, part_.step.k, begin - first * rows_per_row_),
         .row_offset = part_.row_offset + begin,
         .core = core});
    return absl::OkStatus();
  }

 private:
  const CorePart part_;
  const std::string tensor_;
  const int64_t first_row_, rows_per_row_;
  const DType dtype_;
  const TensorSource& source_;
};

class FoldedRows : public CoreReader {
 public:
  FoldedRows(const FactoredMatrix& matrix, const CorePart& part, DType dtype)
      : matrix_(matrix),
        part_(part),
        dtype_(dtype),
        legs_(LegsOf(matrix, matrix.terms[part.term])) {}

  absl::Status Read(const TensorSource& source) {
    std::vector<HostTensor> tensors;
    for (const int core : part_.step.cores) {
      auto tensor = ReadWholeCore(legs_, matrix_.terms[part_.term].cores[core], source);
      if (!tensor.ok()) return tensor.status();
      tensors.push_back(*std::move(tensor));
    }
    product_ = FoldTensors(legs_, std::move(tensors), RowLegs(part_.step), part_.step.summed_legs);
    return absl::OkStatus();
  }

  absl::Status PackRows(const OpTable& ops, int64_t begin, int64_t end,
                        const PackedCore& core) const override {
    const int64_t k = part_.step.k;
    std::vector<double> exact((end - begin) * k);
    product_.Rows(begin, end, exact.data());
    std::vector<char> rows((end - begin) * k * static_cast<int64_t>(SizeOf(dtype_)));
    for (int64_t i = 0; i < (end - begin) * k; ++i) {
      const float stored = StoreRounded(static_cast<float>(exact[i]), dtype_, rows.data(), i);
      if (!std::isfinite(stored)) {
        return absl::InvalidArgumentError(absl::StrCat(
            matrix_.name, ": the product of its factors at row ", begin + i / k, ", column ", i % k,
            ", ", exact[i], ", does not fit in ", Name(dtype_).data()));
      }
    }
    ops.pack_rows({.source = RowsView(rows, dtype_, end - begin, k, 0),
                   .row_offset = part_.row_offset + begin,
                   .core = core});
    return absl::OkStatus();
  }

 private:
  const FactoredMatrix& matrix_;
  const CorePart part_;
  const DType dtype_;
  const TermLegs legs_;
  TensorProduct product_;
};

// Null when rows of W are not rows of the tensor.
std::unique_ptr<CoreReader> Streamed(const TermLegs& legs, const Core& core, const CorePart& part,
                                     DType dtype, const TensorSource& source) {
  std::vector<int> wanted = RowLegs(part.step);
  if (wanted.empty() || core.legs.size() < 2) return nullptr;
  wanted.insert(wanted.end(), part.step.summed_legs.begin(), part.step.summed_legs.end());
  if (wanted != StoredOrder(legs, core)) return nullptr;
  const std::vector<int64_t> stored = core.StoredShape();
  for (size_t i = 1; i < core.legs.size(); ++i) {
    if (core.legs[i].offset != 0 || stored[i] != core.legs[i].extent) return nullptr;
  }
  const int64_t rows = core.legs[0].extent - core.identity_rows();
  return std::make_unique<StreamedRows>(part, core.TensorOf("values"), core.legs[0].offset,
                                        part.step.n / rows, dtype, source);
}

// The tensor's rows [offset, offset + extent) of the first leg, all of the others.
absl::StatusOr<std::vector<float>> ReadSlab(const Core& core, int64_t cols,
                                            const TensorSource& source) {
  const LegRange& first = core.legs[0];
  const bool vector = core.legs.size() == 1;
  const int64_t begin = vector ? 0 : first.offset;
  const int64_t end = vector ? 1 : first.offset + first.extent - core.identity_rows();
  std::vector<float> slab((end - begin) * cols);
  absl::Status status =
      core.encoding.IsFloat()
          ? source.ReadRows(core.TensorOf("values"), begin, end, cols, DType::kF32, slab.data())
          : DecodeSlab(core, begin, end, cols, source, slab.data());
  if (!status.ok()) return status;
  return slab;
}

}  // namespace

absl::StatusOr<HostTensor> ReadWholeCore(const TermLegs& legs, const Core& core,
                                         const TensorSource& source) {
  const bool vector = core.legs.size() == 1;
  const std::vector<int64_t> stored = core.StoredShape();
  int64_t cols = 1;
  for (size_t i = vector ? 0 : 1; i < core.legs.size(); ++i) cols *= stored[i];
  auto slab = ReadSlab(core, cols, source);
  if (!slab.ok()) return slab.status();
  // Positions in the slab of all elements that the matrix takes.
  std::vector<int64_t> positions = {0};
  for (size_t i = 0; i < core.legs.size(); ++i) {
    const LegRange& leg = core.legs[i];
    const bool sliced = i == 0 && !vector;  // the slab begins at the range
    const int64_t offset = sliced ? 0 : leg.offset;
    const int64_t count = i == 0 ? leg.extent - core.identity_rows() : leg.extent;
    const int64_t extent = sliced ? count : stored[i];
    std::vector<int64_t> next;
    next.reserve(positions.size() * count);
    for (const int64_t p : positions) {
      for (int64_t j = 0; j < count; ++j) next.push_back(p * extent + offset + j);
    }
    positions = std::move(next);
  }
  HostTensor result{.legs = StoredOrder(legs, core)};
  const int64_t identity = core.identity_rows();
  result.data.reserve(identity * identity + positions.size());
  for (int64_t i = 0; i < identity * identity; ++i)
    result.data.push_back(i / identity == i % identity ? 1.0 : 0.0);
  for (const int64_t p : positions) result.data.push_back((*slab)[p]);
  return result;
}

absl::StatusOr<std::unique_ptr<CoreReader>> MakeCoreReader(const FactoredMatrix& matrix,
                                                           const CorePart& part, DType dtype,
                                                           const TensorSource& source) {
  const Term& term = matrix.terms[part.term];
  const TermLegs legs = LegsOf(matrix, term);
  const Core& core = term.cores[part.step.cores[0]];
  if (part.step.block_encoded) return MakeBlockReader(matrix, part, source);
  if (part.step.cores.size() == 1 && core.encoding.IsFloat()) {
    if (auto reader = Streamed(legs, core, part, dtype, source)) return reader;
  }
  auto folded = std::make_unique<FoldedRows>(matrix, part, dtype);
  if (auto status = folded->Read(source); !status.ok()) return status;
  return std::unique_ptr<CoreReader>(std::move(folded));
}

}  // namespace rankine
