// Independent pieces of work on threads of their own, outside the kernels' pool.
#pragma once

#include <cstddef>
#include <functional>

#include "absl/status/status.h"

namespace rankine {

// work(0), .., work(count - 1), each once; threads = 0: the cores this process may run on. The
// first error in the order of the pieces; all pieces are done in any case.
absl::Status RunInParallel(size_t count, int threads,
                           const std::function<absl::Status(size_t)>& work);

}  // namespace rankine
