// Early return on a bad Status. Only for .cc files.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RK_STATUS_CONCAT_INNER(a, b) a##b
#define RK_STATUS_CONCAT(a, b) RK_STATUS_CONCAT_INNER(a, b)

#define RK_RETURN_IF_ERROR(expression)     \
  do {                                     \
    absl::Status rk_status = (expression); \
    if (!rk_status.ok()) [[unlikely]]      \
      return rk_status;                    \
  } while (false)

// RK_ASSIGN_OR_RETURN(const std::string name, value.String());
#define RK_ASSIGN_OR_RETURN(declaration, expression) \
  RK_ASSIGN_OR_RETURN_IMPL(RK_STATUS_CONCAT(rk_status_or_, __LINE__), declaration, expression)
#define RK_ASSIGN_OR_RETURN_IMPL(temporary, declaration, expression) \
  auto temporary = (expression);                                     \
  if (!temporary.ok()) [[unlikely]]                                  \
    return temporary.status();                                       \
  declaration = *std::move(temporary)
