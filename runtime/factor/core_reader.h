// Reads stored cores as the products want them: rows of W [n, k] for the packer. Three ways, the
// first that fits:
//  - rows of W are rows of a float tensor: read as the resident dtype;
//  - W is a block-encoded core: its blocks are read as stored, rows in W's order;
//  - else (cores folded, legs in another order, blocks wanted as floats): the cores are read whole
//    and contracted in float64, and the result is rounded once.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/op_table.h"
#include "runtime/factor/factored_matrix.h"
#include "runtime/factor/group_layout.h"
#include "runtime/factor/host_tensor.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Thread-safe once made. Refers to the matrix and the source, which outlive it.
class CoreReader {
 public:
  virtual ~CoreReader() = default;
  // Reads rows [begin, end) of W and packs them into `core` from row part.row_offset + begin on.
  virtual absl::Status PackRows(const OpTable& ops, int64_t begin, int64_t end,
                                const PackedCore& core) const = 0;
};

// `dtype`: of float cores in memory.
absl::StatusOr<std::unique_ptr<CoreReader>> MakeCoreReader(const FactoredMatrix& matrix,
                                                           const CorePart& part, DType dtype,
                                                           const TensorSource& source);

// The range of a core that the matrix takes, over its legs as stored.
absl::StatusOr<HostTensor> ReadWholeCore(const TermLegs& legs, const Core& core,
                                         const TensorSource& source);

}  // namespace rankine
