// JSON values as text, in one place: nlohmann's serializer takes seconds to compile wherever it is
// called. Includes a third-party header: for .cc files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace rankine {

// On one line, or on lines indented by `indent` spaces a level; without a last newline. Bytes that
// are no UTF-8, which paths and texts may hold, become U+FFFD: a strict dump throws.
std::string DumpJson(const nlohmann::ordered_json& json, int indent = -1);

}  // namespace rankine
