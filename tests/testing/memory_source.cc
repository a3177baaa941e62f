#include "tests/testing/memory_source.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

template <class T>
void CopyRows(const std::vector<T>& from, int64_t rows, int64_t begin, int64_t end,
              std::vector<T>* to) {
  const auto width = static_cast<int64_t>(from.size()) / rows;
  to->assign(from.begin() + begin * width, from.begin() + end * width);
}

}  // namespace

void MemorySource::AddRandom(const std::string& name, int64_t rows, int64_t cols, uint32_t seed,
                             double deviation) {
  std::mt19937 random(seed);
  if (deviation == 0) deviation = 1.0 / std::sqrt(static_cast<double>(cols));
  std::normal_distribution<float> normal(0, static_cast<float>(deviation));
  std::vector<float> values(rows * cols);
  for (float& v : values) v = ToFloat(ToBF16(normal(random)));
  Add(name, rows, cols, std::move(values));
}

void MemorySource::Add(const std::string& name, int64_t rows, int64_t cols,
                       std::vector<float> values) {
  tensors_[name] = {rows, cols, std::move(values)};
}

void MemorySource::AddIndices(const std::string& name, std::vector<int32_t> indices) {
  indices_[name] = std::move(indices);
}

void MemorySource::AddBlocks(const std::string& name, BlockRowsBuffer rows) {
  blocks_[name] = std::move(rows);
}

void MemorySource::Set(const std::string& name, int64_t index, float value) {
  tensors_.at(name).values[index] = value;
}

absl::Status MemorySource::ReadRows(const std::string& tensor, int64_t begin, int64_t end,
                                    int64_t columns, DType dtype, void* out) const {
  if (dtype == DType::kI32) {
    const auto it = indices_.find(tensor);
    if (it == indices_.end() || static_cast<int64_t>(it->second.size()) != columns)
      return absl::NotFoundError(absl::StrCat("indices ", tensor));
    std::memcpy(out, it->second.data(), columns * sizeof(int32_t));
    return absl::OkStatus();
  }
  const auto it = tensors_.find(tensor);
  if (it == tensors_.end()) return absl::NotFoundError(absl::StrCat("tensor ", tensor));
  const auto& [rows, cols, values] = it->second;
  if (cols != columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", tensor, " has ", cols, " columns, not ", columns));
  }
  if (end > rows) return absl::OutOfRangeError(absl::StrCat("rows of ", tensor));
  for (int64_t i = 0; i < (end - begin) * cols; ++i) {
    const float v = values[begin * cols + i];
    if (dtype == DType::kF32) static_cast<float*>(out)[i] = v;
    if (dtype == DType::kBF16) static_cast<BF16*>(out)[i] = ToBF16(v);
    if (dtype == DType::kF16) static_cast<F16*>(out)[i] = ToF16(v);
  }
  return absl::OkStatus();
}

absl::Status MemorySource::ReadBlockRows(const Core& core, int64_t begin, int64_t end, int64_t cols,
                                         BlockRowsBuffer* out) const {
  const auto it = blocks_.find(core.tensors[0].tensor);
  if (it == blocks_.end()) return absl::NotFoundError(core.tensors[0].tensor);
  const BlockRowsBuffer& all = it->second;
  if (cols != all.cols || end > all.rows)
    return absl::InvalidArgumentError(absl::StrCat("rows of ", core.tensors[0].tensor));
  out->encoding = all.encoding;
  out->rows = end - begin;
  out->cols = cols;
  CopyRows(all.codes, all.rows, begin, end, &out->codes);
  out->scales = all.scales;
  if (all.encoding.kind != EncodingKind::kE8P)
    CopyRows(all.scales, all.rows, begin, end, &out->scales);
  CopyRows(all.offsets, all.rows, begin, end, &out->offsets);
  CopyRows(all.scale_codes, all.rows, begin, end, &out->scale_codes);
  CopyRows(all.offset_codes, all.rows, begin, end, &out->offset_codes);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> MemorySource::NumRows(const std::string& tensor) const {
  const auto it = tensors_.find(tensor);
  if (it == tensors_.end()) return absl::NotFoundError(absl::StrCat("tensor ", tensor));
  return it->second.rows;
}

}  // namespace rankine
