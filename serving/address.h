// Addresses to listen on, as the user writes them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace rankine {

// kInvalidArgument unless it is HOST:PORT or unix:PATH. gRPC itself takes more than one would
// expect: it wraps large port numbers around.
absl::Status CheckListenAddress(std::string_view address);

// "host:port" with another port; the address itself when it has none ("unix:PATH").
std::string WithPort(std::string_view address, int port);

// Why nobody can listen there now: "the address is in use already", found by trying.
std::string WhyNotListening(std::string_view address);

}  // namespace rankine
