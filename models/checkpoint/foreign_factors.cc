#include "models/checkpoint/foreign_factors.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/safetensors.h"
#include "models/layout.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

constexpr char kAbMethod[] = "imported: ABLinear pairs, W = A B";
constexpr char kBaMethod[] = "imported: ABLinear pairs in reverse, W = B A";
constexpr char kUvMethod[] = "imported: u and v projections";
constexpr char kQlrMethod[] = "imported: Q + L R";

std::string ShapeText(const TensorInfo& tensor) {
  return absl::StrCat(tensor.name, " [", absl::StrJoin(tensor.shape, ", "), "]");
}

bool IsMatrix(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0;
}

// left [out, r] right [r, in].
bool Multiplies(const TensorInfo& left, const TensorInfo& right, const LinearSpec& linear) {
  return left.shape[0] == linear.out && right.shape[1] == linear.in &&
         left.shape[1] == right.shape[0];
}

Core MatrixCore(const char* name, const TensorInfo& tensor, const char* rows, const char* cols) {
  return {.name = name,
          .legs = {{.name = rows, .extent = tensor.shape[0]},
                   {.name = cols, .extent = tensor.shape[1]}},
          .encoding = Encoding::Float(tensor.natural_dtype),
          .tensors = {{"values", tensor.name}}};
}

// Two tensors of a linear that stand for its weight.
struct Pair {
  const LinearSpec* linear;
  const TensorInfo* left;
  const TensorInfo* right;
};

class Recogniser {
 public:
  Recogniser(const TensorLookup& lookup, FactorOrder order, const std::string& source)
      : lookup_(lookup), order_(order), source_(source) {}

  absl::StatusOr<std::vector<FactoredMatrix>> Run(const std::vector<LinearSpec>& linears) {
    for (const LinearSpec& linear : linears) {
      RK_RETURN_IF_ERROR(FindAb(linear));
      RK_RETURN_IF_ERROR(FindUv(linear));
      RK_RETURN_IF_ERROR(FindQlr(linear));
    }
    RK_RETURN_IF_ERROR(AddAbPairs());
    return std::move(matrices_);
  }

 private:
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": ", what));
  }

  // The first of the names that is there; null when none is.
  const TensorInfo* FindOne(const std::vector<std::string>& names) const {
    for (const std::string& name : names) {
      if (const TensorInfo* tensor = lookup_(name); tensor != nullptr) return tensor;
    }
    return nullptr;
  }

  // A float matrix, or an error that says what it is instead.
  absl::Status CheckFloatMatrix(const TensorInfo& tensor) const {
    if (!IsMatrix(tensor)) return Error(absl::StrCat(ShapeText(tensor), " is not a matrix"));
    if (IsFloat(tensor.natural_dtype) &&
        tensor.stored_type == SafetensorsDTypeName(tensor.natural_dtype)) {
      return absl::OkStatus();
    }
    return Error(absl::StrCat("tensor ", tensor.name, " is ", tensor.stored_type,
                              "; factors must be F32, F16 or BF16"));
  }

  // Both, neither (then `pair` keeps null), or an error.
  absl::Status FindPair(const std::vector<std::string>& left, const std::vector<std::string>& right,
                        Pair* pair) const {
    const TensorInfo* a = FindOne(left);
    const TensorInfo* b = FindOne(right);
    if (a == nullptr && b == nullptr) return absl::OkStatus();
    if (a == nullptr || b == nullptr) {
      return Error(absl::StrCat("tensor ", (a == nullptr ? left : right)[0], " is missing beside ",
                                (a == nullptr ? b : a)->name));
    }
    RK_RETURN_IF_ERROR(CheckFloatMatrix(*a));
    RK_RETURN_IF_ERROR(CheckFloatMatrix(*b));
    pair->left = a;
    pair->right = b;
    return absl::OkStatus();
  }

  absl::Status WrongShapes(const Pair& pair) const {
    return Error(absl::StrCat(ShapeText(*pair.left), " and ", ShapeText(*pair.right),
                              " do not multiply to ", pair.linear->name, " [", pair.linear->out,
                              ", ", pair.linear->in, "]"));
  }

  absl::Status FindAb(const LinearSpec& linear) {
    Pair pair{.linear = &linear};
    RK_RETURN_IF_ERROR(
        FindPair({linear.name + ".ALinear.weight"}, {linear.name + ".BLinear.weight"}, &pair));
    if (pair.left == nullptr) return absl::OkStatus();
    const bool ab = Multiplies(*pair.left, *pair.right, linear);
    const bool ba = Multiplies(*pair.right, *pair.left, linear);
    if (!ab && !ba) return WrongShapes(pair);
    if (!ba && only_ab_ == nullptr) only_ab_ = pair.left;
    if (!ab && only_ba_ == nullptr) only_ba_ = pair.left;
    ab_pairs_.push_back(pair);
    return absl::OkStatus();
  }

  // One order for the whole model: a full square pair alone does not tell.
  absl::Status AddAbPairs() {
    if (ab_pairs_.empty()) return absl::OkStatus();
    if (only_ab_ != nullptr && only_ba_ != nullptr) {
      return Error(absl::StrCat("by its shape ", ShapeText(*only_ab_), " is the left factor, but ",
                                ShapeText(*only_ba_),
                                " is the right one; a model has one order of A and B"));
    }
    FactorOrder order = order_;
    if (order == FactorOrder::kByShapes) {
      if (only_ab_ == nullptr && only_ba_ == nullptr) {
        return Error(
            absl::StrCat("ALinear and BLinear are square and full in every linear (the first is ",
                         ShapeText(*ab_pairs_[0].left),
                         "), so their shapes do not tell which is the left factor; convert "
                         "with --factor-order AB (W = A B, as ASVD) or BA (W = B A, as Dobi-SVD)"));
      }
      order = only_ab_ != nullptr ? FactorOrder::kAB : FactorOrder::kBA;
    }
    const TensorInfo* against = order == FactorOrder::kAB ? only_ba_ : only_ab_;
    if (against != nullptr) {
      return Error(absl::StrCat("--factor-order ", order == FactorOrder::kAB ? "AB" : "BA",
                                " contradicts the shape of ", ShapeText(*against)));
    }
    for (Pair pair : ab_pairs_) {
      if (order == FactorOrder::kBA) std::swap(pair.left, pair.right);
      matrices_.push_back(Product(pair, order == FactorOrder::kAB ? kAbMethod : kBaMethod));
    }
    return absl::OkStatus();
  }

  // "x.q_u_proj" and "x.q_v_proj" for "x.q_proj".
  absl::Status FindUv(const LinearSpec& linear) {
    absl::string_view stem = linear.name;
    if (!absl::ConsumeSuffix(&stem, "_proj")) return absl::OkStatus();
    Pair pair{.linear = &linear};
    RK_RETURN_IF_ERROR(FindPair({absl::StrCat(stem, "_u_proj.weight")},
                                {absl::StrCat(stem, "_v_proj.weight")}, &pair));
    if (pair.left == nullptr) return absl::OkStatus();
    if (!Multiplies(*pair.left, *pair.right, linear)) return WrongShapes(pair);
    matrices_.push_back(Product(pair, kUvMethod));
    return absl::OkStatus();
  }

  absl::Status FindQlr(const LinearSpec& linear) {
    const auto names = [&](const char* part) {
      return std::vector<std::string>{absl::StrCat(linear.name, ".", part, ".weight"),
                                      absl::StrCat(linear.name, ".", part)};
    };
    const TensorInfo* q = FindOne(names("Q"));
    Pair pair{.linear = &linear};
    RK_RETURN_IF_ERROR(FindPair(names("L"), names("R"), &pair));
    if (q == nullptr && pair.left == nullptr) return absl::OkStatus();
    if (q == nullptr || pair.left == nullptr) {
      return Error(absl::StrCat("tensor ", names(q == nullptr ? "Q" : "L")[0],
                                " is missing beside ", (q == nullptr ? pair.left : q)->name));
    }
    RK_RETURN_IF_ERROR(CheckFloatMatrix(*q));
    if (q->shape != std::vector<int64_t>{linear.out, linear.in}) {
      return Error(absl::StrCat("tensor ", ShapeText(*q), " should be [", linear.out, ", ",
                                linear.in, "], the shape of ", linear.name));
    }
    if (!Multiplies(*pair.left, *pair.right, linear)) return WrongShapes(pair);
    FactoredMatrix matrix = Empty(linear, kQlrMethod);
    matrix.terms.push_back({{MatrixCore("Q", *q, "o", "i")}});
    matrix.terms.push_back(
        {{MatrixCore("L", *pair.left, "o", "r"), MatrixCore("R", *pair.right, "r", "i")}});
    RK_RETURN_IF_ERROR(AddRotations(linear, &matrix));
    matrices_.push_back(std::move(matrix));
    return absl::OkStatus();
  }

  // Signs of the Hadamard transforms in whose basis Q, L and R are: SU [in], SV [out], as QuIP#
  // calls them.
  absl::Status AddRotations(const LinearSpec& linear, FactoredMatrix* matrix) const {
    const std::string su = linear.name + ".SU", sv = linear.name + ".SV";
    const bool has_su = lookup_(su) != nullptr, has_sv = lookup_(sv) != nullptr;
    for (const auto& [is_there, name, features] :
         {std::tuple{has_su, su, linear.in}, std::tuple{has_sv, sv, linear.out}}) {
      if (is_there && (features & (features - 1)) != 0) {
        return Error(absl::StrCat(
            "tensor ", name, " rotates ", features,
            " features, which is no power of two: its Hadamard matrix is not in the file; store "
            "Q, L and R in the layer's own basis instead"));
      }
    }
    using Kind = Transform::Kind;
    if (has_su) matrix->input_transforms.push_back({.kind = Kind::kHadamard, .tensor = su});
    if (has_sv) {
      matrix->output_transforms.push_back(
          {.kind = Kind::kHadamard, .tensor = sv, .transposed = true});
    }
    return absl::OkStatus();
  }

  FactoredMatrix Empty(const LinearSpec& linear, const char* method) const {
    FactoredMatrix matrix{.name = linear.name,
                          .out_features = linear.out,
                          .in_features = linear.in,
                          .output_legs = {{"o", linear.out}},
                          .input_legs = {{"i", linear.in}}};
    matrix.provenance.method = method;
    if (lookup_(linear.bias()) != nullptr) matrix.bias_tensor = linear.bias();
    return matrix;
  }

  // U V, or U S V where the singular values are a tensor of their own, as our export writes them.
  FactoredMatrix Product(const Pair& pair, const char* method) const {
    FactoredMatrix matrix = Empty(*pair.linear, method);
    Term term{{MatrixCore("U", *pair.left, "o", "r")}};
    if (const TensorInfo* s = lookup_(pair.linear->name + ".S"); s != nullptr) {
      term.cores.push_back({.name = "S",
                            .legs = {{.name = "r", .extent = pair.left->shape[1]}},
                            .encoding = Encoding::Float(s->natural_dtype),
                            .tensors = {{"values", s->name}}});
    }
    term.cores.push_back(MatrixCore("V", *pair.right, "r", "i"));
    matrix.terms.push_back(std::move(term));
    // The left factor's own bias is the layer's.
    const std::string bias = absl::StrCat(absl::StripSuffix(pair.left->name, ".weight"), ".bias");
    if (lookup_(bias) != nullptr) matrix.bias_tensor = bias;
    return matrix;
  }

  const TensorLookup& lookup_;
  const FactorOrder order_;
  const std::string& source_;
  std::vector<Pair> ab_pairs_;
  // The first A that can only be the left factor, and the right one.
  const TensorInfo* only_ab_ = nullptr;
  const TensorInfo* only_ba_ = nullptr;
  std::vector<FactoredMatrix> matrices_;
};

// Of the bonds of its terms; absent for a dense matrix.
std::optional<std::pair<int64_t, int64_t>> Ranks(const FactoredMatrix& matrix) {
  std::optional<std::pair<int64_t, int64_t>> range;
  for (const Term& term : matrix.terms) {
    std::map<std::string, std::pair<int, int64_t>> legs;  // by name: cores, extent
    for (const Core& core : term.cores) {
      for (const LegRange& leg : core.legs) {
        ++legs[leg.name].first;
        legs[leg.name].second = leg.extent;
      }
    }
    for (const auto& [name, leg] : legs) {
      if (leg.first < 2) continue;
      if (!range) range = {leg.second, leg.second};
      range = {std::min(range->first, leg.second), std::max(range->second, leg.second)};
    }
  }
  return range;
}

}  // namespace

absl::StatusOr<std::vector<FactoredMatrix>> RecogniseFactors(const ModelConfig& config,
                                                             const TensorLookup& lookup,
                                                             FactorOrder order,
                                                             const std::string& source) {
  const std::vector<LinearSpec> linears = LayoutOf(config).linears;
  return Recogniser(lookup, order, source).Run(linears);
}

std::vector<std::string> DescribeMatrices(const std::vector<FactoredMatrix>& matrices) {
  struct Kind {
    int64_t linears = 0;
    std::optional<std::pair<int64_t, int64_t>> ranks;
  };
  std::vector<std::pair<std::string, Kind>> kinds;  // in the order of the model
  for (const FactoredMatrix& matrix : matrices) {
    const std::string& method = matrix.provenance.method;
    auto found = std::find_if(kinds.begin(), kinds.end(),
                              [&](const auto& kind) { return kind.first == method; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {method, Kind{}});
    Kind& kind = found->second;
    ++kind.linears;
    const auto ranks = Ranks(matrix);
    if (!ranks) continue;
    if (!kind.ranks) kind.ranks = ranks;
    kind.ranks = {std::min(kind.ranks->first, ranks->first),
                  std::max(kind.ranks->second, ranks->second)};
  }
  std::vector<std::string> lines;
  for (const auto& [method, kind] : kinds) {
    std::string line = absl::StrCat(kind.linears, kind.linears == 1 ? " linear" : " linears", ": ",
                                    method.empty() ? "of no stated origin" : method);
    if (kind.ranks) {
      absl::StrAppend(&line, ", rank ", kind.ranks->first);
      if (kind.ranks->second != kind.ranks->first)
        absl::StrAppend(&line, " to ", kind.ranks->second);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace rankine
