// gRPC writes to stderr by itself; a program whose errors are one line each can't have that.
#pragma once

namespace rankine {

// Drops gRPC's own log unless the environment asks for it (GRPC_VERBOSITY or GRPC_TRACE).
void QuietGrpcLog();

}  // namespace rankine
