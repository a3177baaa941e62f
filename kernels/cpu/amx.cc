#include "kernels/cpu/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace rankine {
namespace {

// Linux saves the tiles of a process (8 kB a thread) only after it has asked for them:
// arch_prctl(2).
bool AskForTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool HasAmx() {
  static const bool has = __builtin_cpu_supports("amx-tile") &&
                          __builtin_cpu_supports("amx-int8") &&
                          __builtin_cpu_supports("amx-bf16") && AskForTiles();
  return has;
}

}  // namespace rankine
