#include "serving/address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

struct HostPort {
  std::string host;
  std::string port;
};

// Brackets around an IPv6 host are removed. Without a port, `port` is empty.
HostPort Split(std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return {.host = std::string(address), .port = ""};
  std::string_view host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return {.host = std::string(host), .port = std::string(address.substr(colon + 1))};
}

std::string TryToBind(const addrinfo& info) {
  const int fd = socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC, info.ai_protocol);
  if (fd < 0) return std::strerror(errno);
  const int on = 1;  // as gRPC does: a connection in TIME_WAIT is no reason
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  std::string why;
  if (bind(fd, info.ai_addr, info.ai_addrlen) != 0 || listen(fd, 1) != 0) {
    why = std::strerror(errno);
  }
  close(fd);
  return why;
}

}  // namespace

absl::Status CheckListenAddress(std::string_view address) {
  if (address.starts_with("unix:")) return absl::OkStatus();
  const HostPort parts = Split(address);
  int port = -1;
  const bool is_number = absl::SimpleAtoi(parts.port, &port);
  if (!parts.host.empty() && is_number && port >= 0 && port <= 65535) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", std::string(address),
                                                 ": it must be HOST:PORT, with a port from 0 (any ",
                                                 "free one) to 65535, or unix:PATH"));
}

std::string WithPort(std::string_view address, int port) {
  const size_t colon = address.rfind(':');
  if (address.starts_with("unix:") || colon == std::string_view::npos) return std::string(address);
  return absl::StrCat(std::string(address.substr(0, colon)), ":", port);
}

std::string WhyNotListening(std::string_view address) {
  if (address.starts_with("unix:")) return "no socket can be made at that path";
  const HostPort parts = Split(address);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &found);
  if (error != 0) return gai_strerror(error);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    std::string why = TryToBind(*info);
    if (!why.empty()) return why;
  }
  return "the address may not be used";
}

}  // namespace rankine
