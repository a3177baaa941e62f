// Spectra as JSON: in the cache, and in explore.json. Includes a third-party header: for .cc files
// of this folder.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tools/explore/spectra.h"

namespace rankine {

nlohmann::ordered_json SpectraJson(const std::vector<Spectrum>& spectra);

}  // namespace rankine
