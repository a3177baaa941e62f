// Waiting for SIGTERM and SIGINT. A handler that writes to an event descriptor works whichever
// thread gets the signal; blocking the signals would need every thread to be started after that.
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>

#include "kernels/base/check.h"
#include "serving/server.h"

namespace rankine {
namespace {

std::atomic<int> signal_fd{-1};  // a signal handler can reach nothing but a global

void OnSignal(int) {
  const int saved = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(signal_fd.load(), &one, sizeof(one));
  errno = saved;
}

// Handles both signals while it lives.
class SignalScope {
 public:
  SignalScope() {
    signal_fd.store(eventfd(0, EFD_CLOEXEC));
    RK_CHECK(signal_fd.load() >= 0);
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, &old_term_);
    sigaction(SIGINT, &action, &old_int_);
  }
  ~SignalScope() {
    sigaction(SIGTERM, &old_term_, nullptr);
    sigaction(SIGINT, &old_int_, nullptr);
    close(signal_fd.exchange(-1));
  }

  void Wait() {
    uint64_t count = 0;
    while (read(signal_fd.load(), &count, sizeof(count)) < 0 && errno == EINTR) {
    }
  }

 private:
  struct sigaction old_term_ = {};
  struct sigaction old_int_ = {};
};

}  // namespace

int RunUntilSignal(Server& server, const std::function<void()>& on_ready) {
  {
    SignalScope signals;
    if (on_ready) on_ready();
    signals.Wait();
  }  // from here on a signal has its default effect
  server.Drain();
  return 0;
}

}  // namespace rankine
