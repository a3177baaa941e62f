#include "models/files/quoted.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace rankine {

std::string Quoted(std::string_view name) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(name.substr(0, 200))), "\"");
}

}  // namespace rankine
