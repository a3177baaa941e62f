# Everything that the project links, all from Debian 12 but sentencepiece (see tools/scripts/sentencepiece.sh).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Protobuf REQUIRED)
pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(grpcpp REQUIRED IMPORTED_TARGET grpc++)
# Debian ships the reflection library without a .pc file.
find_library(GRPCPP_REFLECTION_LIBRARY grpc++_reflection REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# Debian's libsentencepiece exports an older protobuf-lite and aborts beside protobuf 3.21,
# so a static library built from the PyPI sdist is used instead.
set(RANKINE_DEPS_DIR "$ENV{RANKINE_DEPS_DIR}" CACHE PATH "Where tools/setup.sh built sentencepiece")
if(NOT RANKINE_DEPS_DIR)
  set(RANKINE_DEPS_DIR ${CMAKE_SOURCE_DIR}/build/deps)
endif()
set(SENTENCEPIECE_ROOT ${RANKINE_DEPS_DIR}/sentencepiece)
if(NOT EXISTS ${SENTENCEPIECE_ROOT}/lib/libsentencepiece.a)
  message(FATAL_ERROR "sentencepiece is not built under ${SENTENCEPIECE_ROOT}; run: bash tools/setup.sh")
endif()
add_library(sentencepiece STATIC IMPORTED)
set_target_properties(sentencepiece PROPERTIES
  IMPORTED_LOCATION ${SENTENCEPIECE_ROOT}/lib/libsentencepiece.a
  INTERFACE_INCLUDE_DIRECTORIES ${SENTENCEPIECE_ROOT}/include)
target_link_libraries(sentencepiece INTERFACE protobuf::libprotobuf-lite Threads::Threads)
