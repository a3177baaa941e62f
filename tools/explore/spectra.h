// What each linear's directions are worth: how fast the loss falls with the rank.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/statistics_folder.h"

namespace rankine {

struct Spectrum {
  std::string linear;
  int64_t largest_rank = 0;  // min(m, n)
  // Squared singular values at a few ranks, as shares of their sum: of W H^1/2, where there are
  // statistics, else of W.
  std::vector<int64_t> index;  // rising, from 0
  std::vector<double> share;
  // The rank from which on all that is dropped is less than 1% of the sum.
  int64_t rank_99 = 0;
};

struct SpectraArgs {
  const Checkpoint* dense = nullptr;
  const StatisticsFolder* statistics = nullptr;  // null: of W itself
  int threads = 0;
  std::string cache_path;  // where they are read from and left; damaged or foreign ones are remade
  std::string key;         // of model and statistics
  std::function<absl::Status(double fraction)> progress;
};

// Of every linear of the numbered layers, by layer, then by name.
absl::StatusOr<std::vector<Spectrum>> SpectraOf(const SpectraArgs& args);

}  // namespace rankine
