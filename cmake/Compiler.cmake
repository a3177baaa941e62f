# Language level, warnings and the instruction baseline, shared by every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# Results of a product must not depend on the code around it: no contraction beyond what is written.
add_compile_options(-ffp-contract=off)
# AVX2 + FMA is the floor of the binary; better instructions are chosen at run time.
add_compile_options(-march=x86-64-v3)
# Designated initialisers leave the rest at its default on purpose; -Wrestrict has false alarms in g++ 12 (GCC bug 105329).
add_compile_options(-Wno-missing-field-initializers $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # ccache keeps nothing of a file with a precompiled header unless it may trust the header's macros and times. What
  # a file depends on it reads from the compiler's own list, which saves preprocessing a file that it doesn't know.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1
    ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

if(RANKINE_SANITIZE)
  # Instrumented code takes g++ a third less time at -O1, and its stack traces say more.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1 -DNDEBUG")
  add_compile_options(-fsanitize=${RANKINE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RANKINE_SANITIZE})
  # Instrumented code makes g++ 12 see uninitialised members inside std::regex and std::function.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  if(RANKINE_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# rankine_add_library(name DEPS a b ...): a static library of all .cc files under the current folder.
function(rankine_add_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Werror)
endfunction()
