#include "tools/explore/report/report.h"

#include "models/status_macros.h"
#include "tools/explore/json_file.h"

namespace rankine {

absl::Status WriteReportFiles(const Exploration& exploration, const std::string& folder) {
  RK_RETURN_IF_ERROR(ReplaceFile(folder + "/explore.json", ExplorationJson(exploration)));
  RK_RETURN_IF_ERROR(ReplaceFile(folder + "/points.csv", PointsCsv(exploration)));
  return ReplaceFile(folder + "/explore.html", ExplorationHtml(exploration));
}

}  // namespace rankine
