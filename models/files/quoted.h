// Names that come from files, in messages.
#pragma once

#include <string>
#include <string_view>

namespace rankine {

// In quotes, without control characters, and cut after 200 bytes: a file may name things as it
// likes.
std::string Quoted(std::string_view name);

}  // namespace rankine
