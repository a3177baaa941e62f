#include "tools/compress/layer_checkpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/compress/linears.h"

namespace rankine {
namespace {

// A vocabulary's matrix as its first rows; others are left alone.
void CutVocabulary(int64_t vocab_size, FactoredMatrix* m) {
  if (LayerOf(m->name) || m->out_features != vocab_size || !IsDense(*m)) return;
  if (vocab_size <= LayerCheckpoint::kVocabulary || m->output_legs.size() != 1) return;
  m->out_features = LayerCheckpoint::kVocabulary;
  m->output_legs[0].extent = LayerCheckpoint::kVocabulary;
  for (LegRange& leg : m->terms[0].cores[0].legs) {
    if (leg.name != m->output_legs[0].name) continue;
    leg.stored_extent = std::max(leg.stored_extent, leg.extent);
    leg.extent = LayerCheckpoint::kVocabulary;
  }
}

}  // namespace

LayerCheckpoint::LayerCheckpoint(const Checkpoint& source, int64_t layer,
                                 const std::vector<FactoredMatrix>& matrices,
                                 std::vector<StoredTensor> tensors)
    : source_(source), layer_(layer), config_(source.config()), stored_(std::move(tensors)) {
  config_.num_layers = 1;
  config_.vocab_size = std::min(config_.vocab_size, kVocabulary);
  AddSourceTensors();
  for (const StoredTensor& t : stored_) {
    by_name_[t.name] = infos_.size();
    infos_.push_back({.name = t.name,
                      .stored_type = t.dtype == DType::kF32    ? "F32"
                                     : t.dtype == DType::kF16  ? "F16"
                                     : t.dtype == DType::kBF16 ? "BF16"
                                                               : "I8",
                      .natural_dtype = t.dtype,
                      .shape = t.shape,
                      .stored_bytes = static_cast<int64_t>(t.bytes.size())});
  }
  AddSourceMatrices(matrices);
  for (FactoredMatrix m : matrices) {
    m.name = Renamed(m.name);
    factored_.push_back(std::move(m));
  }
}

void LayerCheckpoint::AddSourceTensors() {
  const int64_t vocabulary = source_.config().vocab_size;
  for (TensorInfo t : source_.tensors()) {
    const auto layer = LayerOf(t.name);
    if (layer && *layer != layer_) continue;
    if (!layer && t.shape.size() == 2 && t.shape[0] == vocabulary) t.shape[0] = config_.vocab_size;
    by_name_[Renamed(t.name)] = infos_.size();
    by_name_[t.name] = infos_.size();
    infos_.push_back(std::move(t));
  }
}

void LayerCheckpoint::AddSourceMatrices(const std::vector<FactoredMatrix>& replaced) {
  for (FactoredMatrix m : source_.factored()) {
    const auto layer = LayerOf(m.name);
    if (layer && *layer != layer_) continue;
    const bool is_replaced = std::any_of(replaced.begin(), replaced.end(),
                                         [&](const FactoredMatrix& r) { return r.name == m.name; });
    if (is_replaced) continue;
    CutVocabulary(source_.config().vocab_size, &m);
    m.name = Renamed(m.name);
    factored_.push_back(std::move(m));
  }
}

std::string LayerCheckpoint::Renamed(const std::string& name) const {
  if (LayerOf(name) != layer_) return name;
  return InLayer(name, 0);
}

const StoredTensor* LayerCheckpoint::FindStored(const std::string& name) const {
  for (const StoredTensor& t : stored_) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

const TensorInfo* LayerCheckpoint::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &infos_[found->second];
}

absl::Status LayerCheckpoint::ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                                       DType dtype, void* out) const {
  if (FindStored(tensor.name) != nullptr) {
    int64_t cols = 1;
    for (size_t i = tensor.shape.size() > 1 ? 1 : 0; i < tensor.shape.size(); ++i) {
      cols *= tensor.shape[i];
    }
    return StoredTensorSource(stored_).ReadRows(tensor.name, row_begin, row_end, cols, dtype, out);
  }
  return source_.ReadRows(*source_.Find(tensor.name), row_begin, row_end, dtype, out);
}

absl::Status LayerCheckpoint::ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                            int64_t cols, BlockRowsBuffer* out) const {
  if (FindStored(core.tensors[0].tensor) != nullptr) {
    return StoredTensorSource(stored_).ReadBlockRows(core, row_begin, row_end, cols, out);
  }
  return source_.ReadBlockRows(core, row_begin, row_end, cols, out);
}

absl::Status LayerCheckpoint::ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                                      void* out) const {
  const StoredTensor* stored = FindStored(tensor.name);
  if (stored == nullptr) return source_.ReadRaw(*source_.Find(tensor.name), begin, size, out);
  if (begin < 0 || size < 0 || begin + size > static_cast<int64_t>(stored->bytes.size())) {
    return absl::OutOfRangeError(absl::StrCat("tensor ", tensor.name, ": bytes out of range"));
  }
  stored->bytes.copy(static_cast<char*>(out), static_cast<size_t>(size),
                     static_cast<size_t>(begin));
  return absl::OkStatus();
}

}  // namespace rankine
