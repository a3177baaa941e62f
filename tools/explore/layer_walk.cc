#include "tools/explore/layer_walk.h"

#include <map>
#include <optional>

#include "models/status_macros.h"

namespace rankine {

absl::Status WalkLayers(
    const LayerWalk& walk,
    const std::function<absl::Status(const std::vector<const LinearInfo*>& linears,
                                     const LayerStatistics* statistics)>& visit) {
  RK_ASSIGN_OR_RETURN(const std::vector<LinearInfo> linears, SelectLinears(*walk.dense, "", ""));
  std::map<int64_t, std::vector<const LinearInfo*>> by_layer;
  for (const LinearInfo& linear : linears) by_layer[linear.layer].push_back(&linear);
  size_t done = 0;
  for (const auto& [layer, members] : by_layer) {
    if (walk.progress) {
      RK_RETURN_IF_ERROR(
          walk.progress(static_cast<double>(done++) / static_cast<double>(by_layer.size())));
    }
    std::optional<LayerStatistics> statistics;
    if (walk.statistics != nullptr) {
      RK_ASSIGN_OR_RETURN(statistics, walk.statistics->Read(layer));
    }
    RK_RETURN_IF_ERROR(visit(members, statistics ? &*statistics : nullptr));
  }
  return absl::OkStatus();
}

}  // namespace rankine
