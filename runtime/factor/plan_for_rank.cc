// Plans for a prefix of the sorted legs: a prefix of the rows of V is a prefix of its blocks, a
// prefix of the columns of U a run inside each block.
#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/api/packed_core.h"
#include "runtime/factor/linear_group.h"

namespace rankine {
namespace {

// Of `n` slices; all of them where there are fewer.
int64_t Prefix(const ContractionPlan& plan, int matrix, int64_t rank) {
  return std::min(rank, plan.sorted_extents[matrix]);
}

int64_t Bytes(const PackedCore& core, int64_t n, int64_t k) {
  return core.dtype == DType::kU8 ? PackedBytes(core.encoding, n, k)
                                  : PackedBytes(core.dtype, n, k);
}

// A product for each matrix that stands in it, since their prefixes do not follow each other.
std::vector<PlanProduct> Cut(const ContractionPlan& plan, const PackedCore& core,
                             const PlanProduct& whole, int64_t rank) {
  PlanProduct product = whole;
  if (whole.sorted_columns_matrix >= 0) product.k = Prefix(plan, whole.sorted_columns_matrix, rank);
  const bool sorted = std::any_of(whole.parts.begin(), whole.parts.end(),
                                  [](const PlanProduct::Part& p) { return p.sorted_matrix >= 0; });
  std::vector<PlanProduct> result;
  if (!sorted) {
    product.weight_bytes = Bytes(core, product.n, product.k);
    return {product};
  }
  for (const PlanProduct::Part& part : whole.parts) {
    PlanProduct p = product;
    p.core_row = whole.core_row + part.row;
    p.vector_offset = whole.vector_offset + part.row;
    p.y_column = whole.y_column + part.row;
    p.n = part.sorted_matrix < 0 ? part.n : Prefix(plan, part.sorted_matrix, rank);
    if (p.run != 0) p.run = p.n;
    p.parts = {{.sorted_matrix = part.sorted_matrix, .n = p.n}};
    p.weight_bytes = Bytes(core, p.n, p.k);
    result.push_back(std::move(p));
  }
  return result;
}

}  // namespace

absl::StatusOr<ContractionPlan> LinearGroup::PlanForRank(int64_t rank) const {
  if (rank < kBlockRows || rank % kBlockRows != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), ": rank ", rank, " is not a multiple of ", kBlockRows, " above 0"));
  }
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (matrices_[i].sorted_leg.empty() || plans_[0].fixed_rank[i].empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        matrices_[i].name, ": no prefix of its rank can be run, since ", plans_[0].fixed_rank[i]));
  }
  ContractionPlan plan = plans_[0];
  for (PlanStep& step : plan.steps) {
    std::vector<PlanProduct> products;
    for (const PlanProduct& whole : step.products) {
      const PackedCore& core = cores_[whole.core];
      for (PlanProduct& p : Cut(plans_[0], core, whole, rank)) {
        if (core.dtype == DType::kU8 && p.k != whole.k && !IsPrefixOfChunks(p.k, whole.k)) {
          return absl::InvalidArgumentError(
              absl::StrCat(matrices_[whole.sorted_columns_matrix].name, ": rank ", rank,
                           " does not end at a chunk of ", kChunkColumns,
                           " columns, as a block-encoded core that sums the rank needs"));
        }
        products.push_back(std::move(p));
      }
    }
    step.products = std::move(products);
    PlanElementwise& e = step.elementwise;
    if (e.sorted_columns_matrix >= 0) e.columns = Prefix(plans_[0], e.sorted_columns_matrix, rank);
  }
  return plan;
}

}  // namespace rankine
