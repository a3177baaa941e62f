#pragma once

namespace rankine {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace rankine
