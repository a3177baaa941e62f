// What a LinearGroup keeps in memory and what runs a batch: one stored form for all token counts,
// or with --plan fastest two, where the memory that may be spent allows; and how a model's budget
// of extra bytes is shared among its groups.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/device_profile.h"
#include "runtime/factor/planner.h"

namespace rankine {

// kStable: one plan at every token count, so that results do not depend on batching. kFastest: the
// fastest plan for each bucket of token counts; a request's numbers may then differ in their last
// bits with the batch that it is in.
enum class PlanMode : uint8_t { kStable, kFastest };

inline constexpr size_t kNumBuckets = std::size(kTokenBuckets);

// The first bucket that holds so many tokens; the last where none does.
size_t BucketOf(int64_t num_tokens);

struct GroupPlan {
  // Of each stored form the orders of all terms (PlannerOptions::orders); the first runs one token.
  std::vector<std::vector<std::string>> forms;
  std::array<int, kNumBuckets> form_of_bucket{};
  int64_t extra_bytes = 0;  // beyond the stored cores
  // Predicted: kStable, of one token; kFastest, of a token in each bucket, summed.
  double microseconds = 0;
  // Of plans that can't do without extra bytes: what for.
  std::string needs;
};

// The plans that a group may have with at most options.extra_weight_bytes, by growing memory and
// falling time. The first is the one with the least memory, even where that is more than allowed.
// Errors as PlanGroup's.
absl::StatusOr<std::vector<GroupPlan>> GroupPlans(absl::Span<const FactoredMatrix> matrices,
                                                  const PlannerOptions& options, PlanMode mode);

// Chooses a plan for each group so that the extra bytes of all are within the budget: those without
// which a group can't run first, then step by step where a byte saves most predicted time. The same
// input gives the same choice. kUnimplemented says what needs more than the budget.
absl::StatusOr<std::vector<GroupPlan>> SpendExtraBytes(
    absl::Span<const std::vector<GroupPlan>> plans_of_groups, int64_t budget);

}  // namespace rankine
