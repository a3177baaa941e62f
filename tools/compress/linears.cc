#include "tools/compress/linears.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint_source.h"
#include "models/encode/block_storage.h"
#include "models/name_pattern.h"
#include "models/status_macros.h"
#include "tools/compress/dense_product.h"

namespace rankine {
namespace {

constexpr std::string_view kWeight = ".weight";

absl::StatusOr<NamePattern> Compile(const std::string& flag, const std::string& expression) {
  auto pattern = NamePattern::Compile(expression);
  if (pattern.ok()) return pattern;
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", pattern.status().message()));
}

// Selects names by the two expressions.
class Selector {
 public:
  static absl::StatusOr<Selector> Create(const std::string& only, const std::string& skip) {
    Selector selector;
    if (!only.empty()) {
      RK_ASSIGN_OR_RETURN(selector.only_, Compile("--only", only));
    }
    if (!skip.empty()) {
      RK_ASSIGN_OR_RETURN(selector.skip_, Compile("--skip", skip));
    }
    return selector;
  }

  bool Selects(const std::string& name) const {
    return LayerOf(name).has_value() && (!only_ || only_->IsIn(name)) &&
           (!skip_ || !skip_->IsIn(name));
  }

 private:
  std::optional<NamePattern> only_, skip_;
};

absl::Status CannotFactor(const FactoredMatrix& m) {
  const bool is_factored = m.terms.size() > 1 || m.terms[0].cores.size() > 1;
  return absl::FailedPreconditionError(absl::StrCat(
      m.name, is_factored ? " is factored already" : " has transforms, which factors would lose",
      "; start from the dense model, or leave it out with --only or --skip"));
}

// A part of a name that is a number.
struct Number {
  size_t at = 0, digits = 0;
  int64_t value = 0;
};

std::optional<Number> FindNumber(std::string_view name) {
  // A layer's number has few digits; more is another kind of name.
  constexpr size_t kMaxDigits = 6;
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    Number number{.at = dot + 1};
    size_t i = number.at;
    for (; i < name.size() && std::isdigit(static_cast<unsigned char>(name[i])); ++i) {
      if (i - dot <= kMaxDigits) number.value = number.value * 10 + (name[i] - '0');
    }
    number.digits = i - number.at;
    if (number.digits == 0 || i >= name.size() || name[i] != '.') continue;
    if (number.digits > kMaxDigits) return std::nullopt;
    return number;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> LayerOf(std::string_view name) {
  const auto number = FindNumber(name);
  if (!number) return std::nullopt;
  return number->value;
}

std::string InLayer(const std::string& name, int64_t layer) {
  const auto number = FindNumber(name);
  if (!number) return name;
  return absl::StrCat(name.substr(0, number->at), layer, name.substr(number->at + number->digits));
}

absl::StatusOr<std::vector<LinearInfo>> SelectLinears(const Checkpoint& checkpoint,
                                                      const std::string& only,
                                                      const std::string& skip) {
  const auto selector = Selector::Create(only, skip);
  if (!selector.ok()) return selector.status();
  std::vector<LinearInfo> linears;
  for (const FactoredMatrix& m : checkpoint.factored()) {
    if (!selector->Selects(m.name)) continue;
    if (!IsDense(m)) return CannotFactor(m);
    linears.push_back(
        {.name = m.name, .layer = *LayerOf(m.name), .matrix = &m, .bias_tensor = m.bias_tensor});
  }
  for (const TensorInfo& t : checkpoint.tensors()) {
    if (t.shape.size() != 2 || !absl::EndsWith(t.name, kWeight.data())) continue;
    const std::string name = t.name.substr(0, t.name.size() - kWeight.size());
    if (!selector->Selects(name)) continue;
    const std::string bias = name + ".bias";
    linears.push_back({.name = name,
                       .layer = *LayerOf(name),
                       .weight = &t,
                       .bias_tensor = checkpoint.Find(bias) == nullptr ? "" : bias});
  }
  if (linears.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no linear is selected by --only '", only, "' --skip '", skip,
                     "'; names look like model.layers.3.mlp.up_proj"));
  }
  std::sort(linears.begin(), linears.end(), [](const LinearInfo& a, const LinearInfo& b) {
    return std::tie(a.layer, a.name) < std::tie(b.layer, b.name);
  });
  return linears;
}

int64_t DenseBits(const LinearInfo& linear, DType block_dtype) {
  const int64_t numbers = linear.out_features() * linear.in_features();
  if (linear.matrix != nullptr) {
    const Core& core = linear.matrix->terms[0].cores[0];
    const int64_t cols = core.legs.back().extent;
    if (!core.encoding.IsFloat()) {
      return 8 * StoredBytes(core.encoding, numbers / cols, cols);
    }
    return 8 * static_cast<int64_t>(SizeOf(core.encoding.dtype)) * numbers;
  }
  const std::string& type = linear.weight->stored_type;
  const DType dtype = type == "F32"    ? DType::kF32
                      : type == "F16"  ? DType::kF16
                      : type == "BF16" ? DType::kBF16
                                       : block_dtype;
  return 8 * static_cast<int64_t>(SizeOf(dtype)) * numbers;
}

absl::StatusOr<std::vector<double>> ReadBias(const Checkpoint& checkpoint,
                                             const LinearInfo& linear) {
  if (linear.bias_tensor.empty()) return std::vector<double>{};
  std::vector<float> bias(linear.out_features());
  auto status =
      CheckpointSource(checkpoint)
          .ReadRows(linear.bias_tensor, 0, 1, linear.out_features(), DType::kF32, bias.data());
  if (!status.ok()) return status;
  return std::vector<double>(bias.begin(), bias.end());
}

absl::StatusOr<Matrix64> ReadWeight(const Checkpoint& checkpoint, const LinearInfo& linear) {
  if (linear.matrix != nullptr) return DenseProduct(*linear.matrix, CheckpointSource(checkpoint));
  Matrix64 w(linear.out_features(), linear.in_features());
  std::vector<float> row(w.cols);
  for (int64_t i = 0; i < w.rows; ++i) {
    auto status = checkpoint.ReadRows(*linear.weight, i, i + 1, DType::kF32, row.data());
    if (!status.ok()) return status;
    std::copy(row.begin(), row.end(), w.Row(i));
  }
  return w;
}

}  // namespace rankine
