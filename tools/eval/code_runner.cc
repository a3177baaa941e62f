#include "tools/eval/code_runner.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/files/output_file.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

// Where the program's last line writes its token.
constexpr int kReportDescriptor = 3;
constexpr int kCannotExecute = 127;

// Everything that changes files, of Landlock's first version.
constexpr uint64_t kWriteRights = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                  LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                                  LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                  LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                  LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;

bool AllowWrites(int ruleset, const char* path, uint64_t rights) {
  const int folder = open(path, O_PATH | O_CLOEXEC);
  if (folder < 0) return false;
  landlock_path_beneath_attr rule{.allowed_access = rights, .parent_fd = folder};
  return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

// Async-signal-safe, as all that runs between fork and exec. Best effort: ProbeConfinement tells
// what came of it.
bool ConfineWrites(const char* folder) {
  landlock_ruleset_attr attributes{.handled_access_fs = kWriteRights};
  const auto ruleset =
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0));
  if (ruleset < 0) return false;
  return AllowWrites(ruleset, folder, kWriteRights) &&
         AllowWrites(ruleset, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE) &&
         syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
}

bool LeaveNetwork() { return unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0; }

// `grace`: between the signal that can be caught and the one that cannot.
void Limit(int resource, rlim_t value, rlim_t grace = 0) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value + grace};
  setrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
}

void SetLimits(const CodeLimits& limits) {
  Limit(RLIMIT_CPU, static_cast<rlim_t>(std::ceil(limits.seconds)), 1);
  Limit(RLIMIT_AS, static_cast<rlim_t>(limits.memory_bytes));
  Limit(RLIMIT_FSIZE, static_cast<rlim_t>(limits.file_bytes));
  Limit(RLIMIT_NPROC, 0);
  Limit(RLIMIT_NOFILE, 32);
  Limit(RLIMIT_CORE, 0);
}

// The child. Never returns.
[[noreturn]] void Execute(const char* python, const char* folder, int report,
                          const CodeLimits& limits) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const int null = open("/dev/null", O_RDWR);
  // Out of the way of the descriptors that are set next.
  const int high = fcntl(report, F_DUPFD, 16);
  for (const int target : {0, 1, 2}) dup2(null, target);
  dup2(high, kReportDescriptor);
  syscall(SYS_close_range, kReportDescriptor + 1, ~0U, 0);
  if (chdir(folder) != 0) _exit(kCannotExecute);
  LeaveNetwork();
  ConfineWrites(folder);
  SetLimits(limits);
  const char* arguments[] = {python, "-I", "-B", "-S", "program.py", nullptr};
  const char* environment[] = {"PATH=/usr/bin:/bin", "PYTHONHASHSEED=0", nullptr};
  execve(python, const_cast<char**>(arguments), const_cast<char**>(environment));
  _exit(kCannotExecute);
}

// The program's path; kNotFound when there is none.
absl::StatusOr<std::string> FindPython(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (access(name.c_str(), X_OK) == 0) return fs::absolute(name).string();
  } else if (const char* path = std::getenv("PATH"); path != nullptr) {
    for (const absl::string_view folder : absl::StrSplit(path, ':')) {
      const std::string candidate = absl::StrCat(folder, "/", name);
      if (access(candidate.c_str(), X_OK) == 0) return candidate;
    }
  }
  return absl::NotFoundError(
      absl::StrCat("no program ", name, " to run code with; name one with --python"));
}

// A folder that goes with the object.
class ScratchFolder {
 public:
  static absl::StatusOr<ScratchFolder> Make() {
    std::error_code error;
    std::string path = (fs::temp_directory_path(error) / "rankine-code-XXXXXX").string();
    if (error || mkdtemp(path.data()) == nullptr) {
      return absl::InternalError(absl::StrCat(path, ": cannot create: ", std::strerror(errno)));
    }
    return ScratchFolder(path);
  }
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// Waits for the process to end; false when the time is up.
bool WaitFor(int process, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    pollfd ended{.fd = process, .events = POLLIN};
    const int ready = poll(&ended, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

std::string RandomToken() {
  std::random_device random;
  return absl::StrCat(absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
}

// Exit code of a child that tries one confinement.
bool ChildCan(bool (*attempt)()) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    _exit(attempt() ? 0 : 1);
  }
  int status = 1;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

}  // namespace

Confinement ProbeConfinement() {
  return {.no_network = ChildCan(&LeaveNetwork),
          .writes_confined = ChildCan([] { return ConfineWrites("/tmp"); })};
}

absl::StatusOr<CodeOutcome> RunPython(const std::string& program, const CodeLimits& limits) {
  RK_ASSIGN_OR_RETURN(const std::string python, FindPython(limits.python));
  RK_ASSIGN_OR_RETURN(const ScratchFolder folder, ScratchFolder::Make());
  // Reached only after everything before it; the token is not known to what a model wrote.
  const std::string token = RandomToken();
  RK_RETURN_IF_ERROR(WriteNewFile(folder.path() + "/program.py",
                                  absl::StrCat(program, "\n__import__('os').write(",
                                               kReportDescriptor, ", b'", token, "')\n")));
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0) return absl::InternalError("no pipe for a program");
  const pid_t child = fork();
  if (child == 0) Execute(python.c_str(), folder.path().c_str(), pipe[1], limits);
  close(pipe[1]);
  if (child < 0) {
    close(pipe[0]);
    return absl::InternalError(absl::StrCat("cannot start ", python, ": ", std::strerror(errno)));
  }
  const auto process = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  const bool ended = process >= 0 && WaitFor(process, limits.seconds);
  // The whole session, whether its leader has ended or not.
  kill(-child, SIGKILL);
  if (!ended) kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  if (process >= 0) close(process);
  char reported[32] = {};
  const ssize_t size = read(pipe[0], reported, sizeof(reported));
  close(pipe[0]);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCannotExecute) {
    return absl::InternalError(absl::StrCat("cannot execute ", python));
  }
  const bool cpu_time_up = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
  if (!ended || cpu_time_up) return CodeOutcome::kTimedOut;
  const bool passed = WIFEXITED(status) && WEXITSTATUS(status) == 0 && size > 0 &&
                      std::string(reported, static_cast<size_t>(size)) == token;
  return passed ? CodeOutcome::kPassed : CodeOutcome::kFailed;
}

}  // namespace rankine
