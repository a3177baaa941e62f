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

# rankine_join_sources(target count): compiles the sources of a folder `count` at a time: each would bring along the same
# inline functions of libraries (nlohmann, Eigen, CLI11), which are most of its time. So names outside of classes differ
# among the files of a folder.
function(rankine_join_sources target count)
  if(NOT RANKINE_PRECOMPILE)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH folder)
    cmake_path(RELATIVE_PATH folder BASE_DIRECTORY ${CMAKE_SOURCE_DIR})
    string(MAKE_C_IDENTIFIER "${folder}" folder)
    list(APPEND folder_${folder} ${source})
    list(LENGTH folder_${folder} length)
    math(EXPR batch "(${length} - 1) / ${count}")
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${folder}_${batch})
  endforeach()
endfunction()
