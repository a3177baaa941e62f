// The report's charts, from the exploration to HTML. Each is a <section>, or empty where there is
// nothing to draw.
#pragma once

#include <map>
#include <string>

#include "tools/explore/explore.h"

namespace rankine {

// Colour of each family of points, in the order in which they come; "as it is" is 0.
std::map<std::string, int> ColorsOf(const Exploration& exploration);
// Which colour and shape are which family.
std::string LegendOf(const Exploration& exploration);

std::string SizeSection(const Exploration& exploration);
std::string SpeedSection(const Exploration& exploration);
std::string LayerErrorSection(const Exploration& exploration);
std::string SensitivitySection(const Exploration& exploration);
std::string SpectraSection(const Exploration& exploration);

}  // namespace rankine
