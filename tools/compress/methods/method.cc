#include "tools/compress/methods/method.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/compress/methods/svd.h"
#include "tools/compress/methods/svd_llm.h"

namespace rankine {
namespace {

constexpr std::array kMethods = {
    Method{.name = "svd", .needs_calibration = false, .factorize = &FactorizeSvd},
    Method{.name = "svd-llm", .needs_calibration = true, .factorize = &FactorizeSvdLlm},
};

// Rounds values to T, writes the rounded ones back, and appends them to `bytes`. False when one
// overflows.
template <class T>
bool Round(std::vector<double>* values, std::string* bytes) {
  bytes->reserve(values->size() * sizeof(T));
  for (double& v : *values) {
    const T stored = FromFloat<T>(static_cast<float>(v));
    v = ToFloat(stored);
    if (!std::isfinite(v)) return false;
    bytes->append(reinterpret_cast<const char*>(&stored), sizeof(T));
  }
  return true;
}

absl::StatusOr<StoredTensor> Store(const std::string& name, DType dtype, std::vector<int64_t> shape,
                                   std::vector<double>* values) {
  StoredTensor tensor{.name = name, .dtype = dtype, .shape = std::move(shape)};
  const bool fits = dtype == DType::kF32   ? Round<float>(values, &tensor.bytes)
                    : dtype == DType::kF16 ? Round<F16>(values, &tensor.bytes)
                                           : Round<BF16>(values, &tensor.bytes);
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat("a value of ", name, " is too large for ",
                                                   std::string(Name(dtype)), "; use bf16 or f32"));
  }
  return tensor;
}

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

int64_t RankFromKeep(double keep, int64_t m, int64_t n) {
  if (keep >= 1) return 0;
  const auto dense = static_cast<double>(m) * static_cast<double>(n);
  const auto rank = static_cast<int64_t>(std::floor(keep * dense / static_cast<double>(m + n)));
  const int64_t r = std::max<int64_t>(rank, 1);
  return static_cast<double>(r) * static_cast<double>(m + n) < dense ? r : 0;
}

absl::StatusOr<Factorization> StoreSvd(const MethodInput& input, const SvdFactors& factors) {
  SvdFactors stored = factors;
  const int64_t m = factors.u.rows, n = factors.v.cols;
  const auto r = static_cast<int64_t>(factors.s.size());
  Factorization result;
  result.rank = r;
  result.matrix = SvdMatrix(input.name, m, n, r, Encoding::Float(input.dtype), input.bias_tensor);
  auto u = Store(input.name + ".U", input.dtype, {m, r}, &stored.u.values);
  if (!u.ok()) return u.status();
  auto s = Store(input.name + ".S", DType::kF32, {r}, &stored.s);
  if (!s.ok()) return s.status();
  auto v = Store(input.name + ".V", input.dtype, {r, n}, &stored.v.values);
  if (!v.ok()) return v.status();
  result.tensors = {*std::move(u), *std::move(s), *std::move(v)};
  result.product = ProductOf(stored);
  return result;
}

}  // namespace rankine
