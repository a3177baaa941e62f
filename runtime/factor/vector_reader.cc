#include "runtime/factor/vector_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/factor/core_reader.h"

namespace rankine {
namespace {

// The product of cores over the legs of a step's rows.
absl::Status ReadScales(const FactoredMatrix& matrix, const VectorPart& part,
                        const TensorSource& source, float* out) {
  const Term& term = matrix.terms[part.term];
  const TermLegs legs = LegsOf(matrix, term);
  std::vector<double> product(part.size, 1.0), values(part.size);
  for (const int core : part.scales) {
    auto tensor = ReadWholeCore(legs, term.cores[core], source);
    if (!tensor.ok()) return tensor.status();
    std::vector<HostTensor> tensors;
    tensors.push_back(*std::move(tensor));
    FoldTensors(legs, std::move(tensors), part.legs, {}).Rows(0, part.size, values.data());
    for (int64_t i = 0; i < part.size; ++i) product[i] *= values[i];
  }
  for (int64_t i = 0; i < part.size; ++i) {
    out[i] = static_cast<float>(product[i]);
    if (!std::isfinite(out[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat(matrix.name, ": its scale ", i, ", ", product[i], ", does not fit in f32"));
    }
  }
  return absl::OkStatus();
}

void Transpose(std::vector<float>* square) {
  const auto rows = static_cast<int64_t>(std::llround(std::sqrt(square->size())));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < i; ++j) std::swap((*square)[i * rows + j], (*square)[j * rows + i]);
  }
}

}  // namespace

absl::StatusOr<std::vector<float>> ReadVector(absl::Span<const FactoredMatrix> matrices,
                                              const VectorRecipe& recipe,
                                              const TensorSource& source) {
  std::vector<float> values(recipe.size, recipe.fill);
  for (const VectorPart& part : recipe.parts) {
    float* out = values.data() + part.offset;
    const absl::Status status =
        part.tensor.empty()
            ? ReadScales(matrices[part.matrix], part, source, out)
            : source.ReadRows(part.tensor, 0, part.rows, part.size / part.rows, DType::kF32, out);
    if (!status.ok()) return status;
  }
  if (recipe.transposed) Transpose(&values);
  return values;
}

absl::StatusOr<std::vector<int32_t>> ReadIndices(const IndexRecipe& recipe,
                                                 const TensorSource& source) {
  if (recipe.tensor.empty()) return recipe.indices;
  std::vector<int32_t> indices(recipe.size);
  std::vector<bool> seen(recipe.size);
  auto status = source.ReadRows(recipe.tensor, 0, 1, recipe.size, DType::kI32, indices.data());
  if (!status.ok()) return status;
  for (int64_t i = 0; i < recipe.size; ++i) {
    const int32_t from = indices[i];
    if (from < 0 || from >= recipe.size || seen[from]) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", absl::CHexEscape(recipe.tensor),
                                                     " is not a permutation: entry ", i, " is ",
                                                     from));
    }
    seen[from] = true;
  }
  return indices;
}

}  // namespace rankine
