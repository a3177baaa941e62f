#include "tools/compress/search/slice_bank.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"

namespace rankine {
namespace {

absl::Status CannotCut(const FactoredMatrix& m, const char* why) {
  return absl::FailedPreconditionError(absl::StrCat(m.name, ": slices cannot be dropped: ", why));
}

const StoredTensor* FindTensor(const std::vector<StoredTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

// The tensor with `count` entries, from 0 on, along axis `axis`.
StoredTensor FirstAlong(const StoredTensor& t, size_t axis, int64_t count) {
  const auto product = [&](size_t begin, size_t end) {
    return std::accumulate(t.shape.begin() + static_cast<std::ptrdiff_t>(begin),
                           t.shape.begin() + static_cast<std::ptrdiff_t>(end), int64_t{1},
                           std::multiplies<>());
  };
  const int64_t outer = product(0, axis);
  const auto inner = static_cast<size_t>(product(axis + 1, t.shape.size()) *
                                         static_cast<int64_t>(SizeOf(t.dtype)));
  const size_t stride = inner * static_cast<size_t>(t.shape[axis]);
  StoredTensor cut{.name = t.name, .dtype = t.dtype, .shape = t.shape};
  cut.shape[axis] = count;
  for (int64_t i = 0; i < outer; ++i) {
    cut.bytes.append(t.bytes, static_cast<size_t>(i) * stride, inner * static_cast<size_t>(count));
  }
  return cut;
}

// Cuts one core, and adds its tensor to `part`.
absl::Status CutCore(const FactoredMatrix& m, const std::vector<StoredTensor>& tensors,
                     int64_t rank, Core* core, LayerPart* part) {
  const auto leg = std::find_if(core->legs.begin(), core->legs.end(),
                                [&](const LegRange& l) { return l.name == m.sorted_leg; });
  const bool has_leg = leg != core->legs.end();
  if (has_leg && !core->encoding.IsFloat()) return CannotCut(m, "a core is stored in blocks");
  if (has_leg && leg->extent < rank) return CannotCut(m, "there are fewer");
  for (const CoreTensor& t : core->tensors) {
    const StoredTensor* tensor = FindTensor(tensors, t.tensor);
    if (tensor == nullptr) return CannotCut(m, "a core belongs to another matrix");
    part->tensors.push_back(has_leg ? FirstAlong(*tensor, leg - core->legs.begin(), rank)
                                    : *tensor);
  }
  if (has_leg) leg->extent = rank;
  return absl::OkStatus();
}

// The values of a float core, its legs as they come.
absl::StatusOr<std::vector<float>> ValuesOf(const Core& core,
                                            const std::vector<StoredTensor>& tensors) {
  int64_t count = 1;
  for (const LegRange& leg : core.legs) count *= leg.extent;
  const int64_t rows = core.legs.size() > 1 ? core.legs[0].extent : 1;
  std::vector<float> values(static_cast<size_t>(count));
  RK_RETURN_IF_ERROR(StoredTensorSource(tensors).ReadRows(
      core.TensorOf("values"), 0, rows, count / rows, DType::kF32, values.data()));
  return values;
}

bool HasFormOfSvd(const FactoredMatrix& m) {
  if (m.terms.size() != 1 || m.terms[0].cores.size() != 3) return false;
  const std::vector<Core>& cores = m.terms[0].cores;
  return cores[0].legs.size() == 2 && cores[0].legs[1].name == m.sorted_leg &&
         cores[1].legs.size() == 1 && cores[1].legs[0].name == m.sorted_leg &&
         cores[2].legs.size() == 2 && cores[2].legs[0].name == m.sorted_leg;
}

// The bias plus what slices from `rank` on give on the mean input: U S (V mean) over those slices.
absl::StatusOr<StoredTensor> BiasWithout(const FactoredMatrix& full,
                                         const std::vector<StoredTensor>& tensors, int64_t rank,
                                         const StoredTensor& bias, const Moments* moments) {
  if (moments == nullptr) return CannotCut(full, "its bias needs the mean input");
  if (!HasFormOfSvd(full)) return CannotCut(full, "it has a bias, and is no U S V");
  const std::vector<Core>& cores = full.terms[0].cores;
  RK_ASSIGN_OR_RETURN(const std::vector<float> u, ValuesOf(cores[0], tensors));
  RK_ASSIGN_OR_RETURN(const std::vector<float> s, ValuesOf(cores[1], tensors));
  RK_ASSIGN_OR_RETURN(const std::vector<float> v, ValuesOf(cores[2], tensors));
  std::vector<float> old(static_cast<size_t>(full.out_features));
  RK_RETURN_IF_ERROR(StoredTensorSource({&bias, 1})
                         .ReadRows(bias.name, 0, 1, full.out_features, DType::kF32, old.data()));
  std::vector<double> values(old.begin(), old.end());
  const auto slices = static_cast<int64_t>(s.size());
  for (int64_t k = rank; k < slices; ++k) {
    const float* row = v.data() + k * full.in_features;
    const double along = s[static_cast<size_t>(k)] * std::inner_product(row, row + full.in_features,
                                                                        moments->mean.begin(), 0.0);
    for (int64_t i = 0; i < full.out_features; ++i) {
      values[static_cast<size_t>(i)] += u[static_cast<size_t>(i * slices + k)] * along;
    }
  }
  return StoreValues(bias.name, bias.dtype, bias.shape, values);
}

}  // namespace

absl::StatusOr<LayerPart> FirstSlices(const FactoredMatrix& full,
                                      const std::vector<StoredTensor>& tensors, int64_t rank,
                                      const Moments* moments) {
  if (full.sorted_leg.empty()) return CannotCut(full, "they are not sorted");
  LayerPart part;
  FactoredMatrix cut = full;
  for (Term& term : cut.terms) {
    for (Core& core : term.cores) {
      RK_RETURN_IF_ERROR(CutCore(full, tensors, rank, &core, &part));
    }
  }
  part.matrices.push_back(std::move(cut));
  const StoredTensor* bias = FindTensor(tensors, full.bias_tensor);
  if (bias != nullptr) {
    RK_ASSIGN_OR_RETURN(StoredTensor moved, BiasWithout(full, tensors, rank, *bias, moments));
    part.tensors.push_back(std::move(moved));
  }
  return part;
}

SliceBank::SliceBank(FactorSource source, Ranks largest, std::string folder)
    : source_(std::move(source)), largest_(std::move(largest)), folder_(std::move(folder)) {}

absl::Status SliceBank::Load(int64_t layer) {
  if (layer_ == layer) return absl::OkStatus();
  layer_.reset();
  const std::string path = absl::StrFormat("%s/slices_%05d.part", folder_, layer);
  auto stored = ReadPart(path);
  if (stored.ok()) {
    full_ = *std::move(stored);
  } else {
    Ranks ranks;
    for (const auto& [name, rank] : largest_) {
      if (LayerOf(name) == layer) ranks[name] = rank;
    }
    RK_ASSIGN_OR_RETURN(full_, source_.factor(layer, ranks));
    RK_RETURN_IF_ERROR(WritePart(path, full_));
  }
  statistics_.reset();
  if (source_.statistics != nullptr) {
    RK_ASSIGN_OR_RETURN(statistics_, source_.statistics(layer));
  }
  layer_ = layer;
  return absl::OkStatus();
}

absl::StatusOr<LayerPart> SliceBank::Get(int64_t layer, const Ranks& ranks) {
  RK_RETURN_IF_ERROR(Load(layer));
  LayerPart result;
  Ranks again;  // of what cannot be cut
  const auto add = [&](LayerPart part) {
    std::move(part.matrices.begin(), part.matrices.end(), std::back_inserter(result.matrices));
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(result.tensors));
  };
  for (const auto& [name, rank] : ranks) {
    const auto full = std::find_if(full_.matrices.begin(), full_.matrices.end(),
                                   [&](const FactoredMatrix& m) { return m.name == name; });
    if (full == full_.matrices.end()) {
      again[name] = rank;
      continue;
    }
    auto cut =
        FirstSlices(*full, full_.tensors, rank, statistics_ ? statistics_->Find(name) : nullptr);
    if (cut.ok()) {
      add(*std::move(cut));
    } else if (absl::IsFailedPrecondition(cut.status())) {
      again[name] = rank;
    } else {
      return cut.status();
    }
  }
  if (again.empty()) return result;
  RK_ASSIGN_OR_RETURN(LayerPart fresh, source_.factor(layer, again));
  add(std::move(fresh));
  return result;
}

}  // namespace rankine
