// What an exploration leaves for people and programs: explore.html, points.csv, explore.json.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "tools/explore/explore.h"

namespace rankine {

// Replaces the three files in `folder`.
absl::Status WriteReportFiles(const Exploration& exploration, const std::string& folder);

// A line for each point, all figures of the table; the header names columns and units.
std::string PointsCsv(const Exploration& exploration);
// {"model", "points": [...], "unmeasured": [...], "spectra": [...], ...}, docs/explore.md.
std::string ExplorationJson(const Exploration& exploration);
// One page that needs nothing else: styles, charts (SVG) and a few lines of script are in it. It is
// well-formed XML as well.
std::string ExplorationHtml(const Exploration& exploration);

}  // namespace rankine
