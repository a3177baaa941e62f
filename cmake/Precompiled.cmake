# Headers of the standard library and of libraries, parsed once for each target: of a small file's time they are most.
# Never the project's own headers, whose change would then build everything anew. A file still includes what it uses:
# the sanitized and the debug builds precompile nothing, and would not build otherwise.
option(RANKINE_PRECOMPILE "Precompile the headers of libraries" ON)

set(RANKINE_STANDARD_HEADERS <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <filesystem> <functional>
  <limits> <map> <memory> <numeric> <optional> <set> <string> <string_view> <utility> <vector>)
set(RANKINE_ABSL_HEADERS <absl/container/flat_hash_map.h> <absl/status/statusor.h> <absl/strings/escaping.h>
  <absl/strings/match.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/str_join.h>
  <absl/types/span.h>)

# rankine_precompile(target header...): these beside the usual ones.
function(rankine_precompile target)
  if(RANKINE_PRECOMPILE)
    # With a precompiled <string> g++ 12 sees assignments of literals as copies of any length (as in GCC bug 105651).
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow;-Wno-array-bounds>)
    target_precompile_headers(${target} PRIVATE ${RANKINE_STANDARD_HEADERS} ${RANKINE_ABSL_HEADERS} ${ARGN})
  endif()
endfunction()
