// A walk over the layers of a model, with what calibration has left of each.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/linears.h"
#include "tools/compress/statistics.h"
#include "tools/compress/statistics_folder.h"

namespace rankine {

struct LayerWalk {
  const Checkpoint* dense = nullptr;
  const StatisticsFolder* statistics = nullptr;           // null: none
  std::function<absl::Status(double fraction)> progress;  // before each layer; empty: nobody asks
};

// visit(linears, statistics) for each layer by number, with its linears by name; the statistics are
// null where there are none. The first error, also of the progress, ends the walk.
absl::Status WalkLayers(
    const LayerWalk& walk,
    const std::function<absl::Status(const std::vector<const LinearInfo*>& linears,
                                     const LayerStatistics* statistics)>& visit);

}  // namespace rankine
