// The table of methods. The next one is a file pair and a line here.
#include <array>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "tools/compress/methods/asvd.h"
#include "tools/compress/methods/basel_ranking.h"
#include "tools/compress/methods/bolaco.h"
#include "tools/compress/methods/caldera.h"
#include "tools/compress/methods/fwsvd.h"
#include "tools/compress/methods/laser.h"
#include "tools/compress/methods/lord.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/methods/mpo.h"
#include "tools/compress/methods/qlr.h"
#include "tools/compress/methods/svd.h"
#include "tools/compress/methods/svd_llm.h"
#include "tools/compress/methods/svd_llm_update.h"
#include "tools/compress/methods/tucker.h"

namespace rankine {
namespace {

constexpr std::array kMethods = {
    kSvdMethod,   kFwsvdMethod,  kAsvdMethod,         kSvdLlmMethod, kSvdLlmUpdateMethod,
    kLordMethod,  kBolacoMethod, kBaselRankingMethod, kQlrMethod,    kCalderaMethod,
    kLaserMethod, kMpoMethod,    kTuckerMethod,
};

}  // namespace

absl::Span<const Method> Methods() { return kMethods; }

absl::StatusOr<const Method*> FindMethod(std::string_view name) {
  std::string known;
  for (const Method& m : kMethods) {
    if (m.name == name) return &m;
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(m.name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("method '", std::string(name), "' is not known; known: ", known));
}

absl::StatusOr<std::vector<Factorization>> RunMethod(const Method& method,
                                                     absl::Span<const MethodInput> inputs) {
  if (method.factorize_jointly != nullptr) return method.factorize_jointly(inputs);
  RK_CHECK(method.factorize != nullptr);
  std::vector<Factorization> results;
  for (const MethodInput& input : inputs) {
    auto result = method.factorize(input);
    if (!result.ok()) return result.status();
    results.push_back(*std::move(result));
  }
  return results;
}

}  // namespace rankine
