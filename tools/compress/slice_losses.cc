#include "tools/compress/slice_losses.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

absl::StatusOr<std::vector<double>> LossesOf(const FactorJob& job, const LayerInput& input,
                                             const LinearInfo& linear) {
  RK_ASSIGN_OR_RETURN(const Matrix64 weight, ReadWeight(*job.checkpoint, linear));
  MethodInput method_input{.name = linear.name, .weight = &weight, .settings = job.settings};
  if (input.statistics != nullptr) method_input.moments = input.statistics->Find(linear.name);
  if (input.fisher != nullptr) method_input.fisher = &input.fisher->at(linear.name);
  return job.method->slice_losses(method_input);
}

}  // namespace

absl::StatusOr<std::vector<std::vector<double>>> SliceLossesOf(const FactorJob& job,
                                                               const LayerInput& input) {
  RK_CHECK(job.method->slice_losses != nullptr);
  const size_t count = input.linears.size();
  std::vector<absl::StatusOr<std::vector<double>>> results(count);
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i = next++; i < count; i = next++) {
      results[i] = LossesOf(job, input, *input.linears[i]);
    }
  };
  const size_t threads = job.threads > 0 ? job.threads : DefaultNumThreads();
  std::vector<std::thread> helpers;
  for (size_t t = 1; t < std::min(threads, count); ++t) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  std::vector<std::vector<double>> losses;
  for (size_t i = 0; i < count; ++i) {
    if (!results[i].ok()) {
      return absl::Status(results[i].status().code(), absl::StrCat(input.linears[i]->name, ": ",
                                                                   results[i].status().message()));
    }
    losses.push_back(*std::move(results[i]));
  }
  return losses;
}

}  // namespace rankine
