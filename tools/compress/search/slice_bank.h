// Factors of a layer's linears at any rank, for searches that try many: a method whose slices are
// sorted is run once for each layer, at the largest rank that anyone will ask for, and what it made
// is cut down after that. Other methods run again for every rank.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/search/model_loss.h"
#include "tools/compress/statistics.h"

namespace rankine {

// How a search gets factors.
struct FactorSource {
  // The linears in `ranks`, all of `layer`, at these ranks.
  std::function<absl::StatusOr<LayerPart>(int64_t layer, const Ranks& ranks)> factor;
  // What calibration knows about `layer`; null = no calibration.
  std::function<absl::StatusOr<LayerStatistics>(int64_t layer)> statistics;
};

// What is left of `full`, which has a sorted leg, when only the first `rank` slices are kept: the
// factors that the method makes at that rank, up to the rounding of their products. A bias that the
// method brought takes over what the other slices gave on the mean input (`moments`), so that the
// mean output stays. kFailedPrecondition: it cannot be cut, as it has no sorted leg, fewer slices,
// a core of blocks along them, or a new bias without moments.
absl::StatusOr<LayerPart> FirstSlices(const FactoredMatrix& full,
                                      const std::vector<StoredTensor>& tensors, int64_t rank,
                                      const Moments* moments);

// Keeps full factors in a folder and the last layer's in memory. One thread.
class SliceBank {
 public:
  // `largest`: of every linear that will be asked for. The folder belongs to one method, model and
  // calibration; it exists.
  SliceBank(FactorSource source, Ranks largest, std::string folder);

  // Errors are those of the source.
  absl::StatusOr<LayerPart> Get(int64_t layer, const Ranks& ranks);

 private:
  absl::Status Load(int64_t layer);

  FactorSource source_;
  Ranks largest_;
  std::string folder_;
  std::optional<int64_t> layer_;  // that full_ and statistics_ are of
  LayerPart full_;
  std::optional<LayerStatistics> statistics_;
};

}  // namespace rankine
