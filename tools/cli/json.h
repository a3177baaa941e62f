// How every command's JSON is printed. Includes a third-party header: for .cc files of this folder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace rankine {

// One line without its newline. Bytes that are no UTF-8, which paths and texts may hold, become
// U+FFFD: a strict dump throws.
inline std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace rankine
