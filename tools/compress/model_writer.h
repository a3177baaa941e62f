// The last step of a factorisation: the new model folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/layer_part.h"

namespace rankine {

struct FactorizedModel {
  const Checkpoint* source = nullptr;
  std::vector<FactoredMatrix> matrices;  // new ones and what they leave of the source's
  // Files of parts, read one at a time.
  std::vector<std::string> part_paths;
  DType block_dtype = DType::kBF16;  // of copied matrices that the source stores in blocks
};

// Writes `out`: every tensor of the source that is still used, in its dtype (what the source stores
// in blocks becomes block_dtype), the new cores, manifest, config, tokenizer and licence. It
// appears complete or not at all. `progress` hears the share done; an error from it ends the
// writing.
absl::Status WriteFactorizedModel(const FactorizedModel& model, const std::string& out,
                                  const std::function<absl::Status(double)>& progress);

// Whether the folder `out` holds a manifest of exactly these matrices: a run that was killed after
// its last rename has left the result.
bool HasManifestOf(const std::vector<FactoredMatrix>& matrices, const std::string& out);

}  // namespace rankine
