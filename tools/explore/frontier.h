// Which points are worth having, and which need not be measured.
#pragma once

#include <string>
#include <vector>

#include "tools/explore/point.h"

namespace rankine {

// Loss is log perplexity on the first text. A point is dominated by another that is no worse in
// every quantity and better in one. Results are in the order of the points; without texts no point
// is on a frontier.
std::vector<bool> SizeFrontier(const std::vector<PointResult>& points);  // linear bytes, loss
// Loss and decode speed relative to the dense model. Points without speed are not on it.
std::vector<bool> SpeedFrontier(const std::vector<PointResult>& points);

// Why `spec` need not be measured; empty: it must be. The rule: within a chain, loss rises as the
// budget falls. So once a larger budget's point P of the chain is no better than some point Q, this
// one is not either, and it is dominated where Q takes no more bytes than it would: P's bytes in
// proportion to the budgets. Q must beat P by more than two standard errors of their difference, so
// that noise prunes nothing. Speed is not judged: a pruned point may be faster than Q.
std::string PruneReason(const PointSpec& spec, const std::vector<PointSpec>& measured_specs,
                        const std::vector<PointResult>& measured);

}  // namespace rankine
