#include "serving/grpc_log.h"

#include <grpc/support/log.h>

#include <cstdlib>

namespace rankine {

void QuietGrpcLog() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr || std::getenv("GRPC_TRACE") != nullptr) return;
  gpr_set_log_function([](gpr_log_func_args*) {});
}

}  // namespace rankine
