#include "tools/compress/methods/mpo.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"
#include "tools/compress/mpo_decomposition.h"
#include "tools/compress/mpo_shape.h"

namespace rankine {
namespace {

// Shapes that are decomposed to compare them, of those that cost least to run. Few, as each takes a
// decomposition of the whole weight.
constexpr size_t kCandidates = 6, kWeightedCandidates = 4;
// The sides of the bond of two sites may differ so much; a short side has few singular values, all
// alike.
constexpr int64_t kMaxImbalance = 6;

struct Candidate {
  MpoShape shape;
  int64_t bond = 0;  // 0: no smaller than dense
  int64_t operations = 0;
  bool promising = false;
};

bool IsWeighted(const MethodInput& input) { return input.settings->Word("weighting") == "full"; }

// Whether a shape is worth decomposing before others. The fit under H is of the first core alone:
// it pays where that core has the larger share of the numbers.
bool IsPromising(const MpoShape& shape, bool weighted) {
  if (shape.size() > 2) return true;
  const int64_t left = shape[0].out * shape[0].in, right = shape[1].out * shape[1].in;
  if (weighted && left < right) return false;
  return std::max(left, right) <= kMaxImbalance * std::min(left, right);
}

// The bond that the options or the budget give this shape.
absl::StatusOr<int64_t> BondOf(const MethodInput& input, const MpoShape& shape) {
  const int64_t bond = input.settings->Integer("bond");
  if (bond == 0) return BondWithin(input.budget, shape, input.encoding);
  RK_ASSIGN_OR_RETURN(const int64_t explicit_bond,
                      BondWithin({.rank = bond}, shape, input.encoding));
  const auto numbers = static_cast<double>(MpoParameters(shape, bond));
  const auto bits = static_cast<double>(MpoBits(shape, bond, input.encoding));
  const Budget& budget = input.budget;
  if ((budget.parameters > 0 && numbers > budget.parameters) ||
      (budget.bits > 0 && bits > budget.bits)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--bond ", bond, " of ", Name(shape), " takes ", numbers, " numbers, ", bits,
                     " bits, more than the budget: raise --keep, or lower --bond"));
  }
  return explicit_bond;
}

absl::StatusOr<Candidate> CandidateOf(const MethodInput& input, MpoShape shape) {
  Candidate candidate{.shape = std::move(shape)};
  RK_ASSIGN_OR_RETURN(candidate.bond, BondOf(input, candidate.shape));
  if (IsWeighted(input) && candidate.bond > 0) {
    RK_RETURN_IF_ERROR(CheckMpoFit(candidate.shape, candidate.bond));
  }
  candidate.operations = MpoOperations(candidate.shape, candidate.bond);
  candidate.promising = IsPromising(candidate.shape, IsWeighted(input));
  return candidate;
}

// Shapes that the budget and the engine can bear, the cheapest to run first. Empty: better dense.
absl::StatusOr<std::vector<Candidate>> Candidates(const MethodInput& input) {
  const Matrix64& w = *input.weight;
  const auto sites = static_cast<int>(input.settings->Integer("sites"));
  const double most = input.settings->Number("max-operations") * static_cast<double>(w.rows) *
                      static_cast<double>(w.cols);
  const std::vector<MpoShape> shapes = MpoShapes(w.rows, w.cols, sites);
  if (shapes.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a ", w.rows, " x ", w.cols, " matrix does not split into ", sites,
        " sites of at least 2 x 2; use fewer --sites, give --shape, or leave it out with --skip"));
  }
  std::vector<Candidate> candidates;
  absl::Status refused;  // of the shape that comes nearest: the most even one
  int64_t widest = 0;
  bool too_slow = false, better_dense = false;
  for (const MpoShape& shape : shapes) {
    const auto candidate = CandidateOf(input, shape);
    if (!candidate.ok()) {
      if (LargestBond(shape) > widest) refused = candidate.status();
      widest = std::max(widest, LargestBond(shape));
      continue;
    }
    better_dense = better_dense || candidate->bond == 0;
    if (candidate->bond == 0) continue;
    if (static_cast<double>(candidate->operations) > most) {
      too_slow = true;
      continue;
    }
    candidates.push_back(*candidate);
  }
  if (candidates.empty() && too_slow) {
    return absl::InvalidArgumentError(
        absl::StrCat("no shape of ", sites, " sites for a ", w.rows, " x ", w.cols,
                     " matrix takes so few operations at this budget; raise --max-operations ",
                     input.settings->Number("max-operations")));
  }
  if (candidates.empty() && !better_dense) return refused;
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::pair(!a.promising, a.operations) < std::pair(!b.promising, b.operations);
  });
  const size_t count = IsWeighted(input) ? kWeightedCandidates : kCandidates;
  if (candidates.size() > count) candidates.resize(count);
  return candidates;
}

// Squared error of the unweighted sweep.
absl::StatusOr<double> PlainLoss(const Matrix64& w, const Candidate& c) {
  const Tensor64 t = ToSites(w, c.shape);
  if (t.order() == 2) {
    RK_ASSIGN_OR_RETURN(const std::vector<double> squares,
                        SquaredSingularValues(Unfold(t, 0), nullptr));
    return std::accumulate(squares.begin() + c.bond, squares.end(), 0.0);
  }
  RK_ASSIGN_OR_RETURN(const TensorTrain train, DecomposeMpo(w, c.shape, c.bond));
  return train.discarded;
}

struct Mpo {
  MpoShape shape;
  std::vector<Tensor64> cores;
};

absl::StatusOr<Mpo> BestInFrobenius(const Matrix64& w, const std::vector<Candidate>& candidates) {
  double least = std::numeric_limits<double>::infinity();
  const Candidate* best = &candidates[0];
  for (const Candidate& c : candidates) {
    if (candidates.size() == 1) break;
    RK_ASSIGN_OR_RETURN(const double loss, PlainLoss(w, c));
    if (loss >= least) continue;
    least = loss;
    best = &c;
  }
  RK_ASSIGN_OR_RETURN(TensorTrain train, DecomposeMpo(w, best->shape, best->bond));
  return Mpo{best->shape, std::move(train.cores)};
}

absl::StatusOr<Mpo> BestUnder(const Matrix64& h, const Matrix64& w,
                              const std::vector<Candidate>& candidates) {
  double least = std::numeric_limits<double>::infinity();
  Mpo best;
  for (const Candidate& c : candidates) {
    RK_ASSIGN_OR_RETURN(std::vector<Tensor64> cores, DecomposeMpoUnder(w, h, c.shape, c.bond));
    const double loss = SquaredWeightedNorm(Difference(w, MpoProduct(cores, c.shape)), h);
    if (loss >= least) continue;
    least = loss;
    best = {c.shape, std::move(cores)};
  }
  return best;
}

absl::StatusOr<Factorization> Store(const MethodInput& input, const Mpo& mpo) {
  const auto& [shape, cores] = mpo;
  Factorization result{.matrix = MatrixOf(input)};
  result.matrix.output_legs.clear();
  result.matrix.input_legs.clear();
  Term term;
  for (size_t k = 0; k < cores.size(); ++k) {
    const std::string number = absl::StrCat(k + 1);
    const LegRange out{"o" + number, 0, shape[k].out}, in{"i" + number, 0, shape[k].in};
    std::vector<LegRange> legs;
    if (k > 0) legs.push_back({absl::StrCat("x", k), 0, cores[k].extents[0]});
    legs.push_back(out);
    legs.push_back(in);
    if (k + 1 < cores.size()) legs.push_back({"x" + number, 0, cores[k].extents[2]});
    result.rank = std::max(result.rank, cores[k].extents[0]);
    result.matrix.output_legs.push_back({out.name, out.extent});
    result.matrix.input_legs.push_back({in.name, in.extent});
    RK_RETURN_IF_ERROR(AddCore({.matrix = input.name,
                                .name = "C" + number,
                                .legs = std::move(legs),
                                .encoding = input.encoding,
                                .values = cores[k].values},
                               &term, &result.tensors));
  }
  result.matrix.terms.push_back(std::move(term));
  return result;
}

}  // namespace

absl::StatusOr<Factorization> FactorizeMpo(const MethodInput& input) {
  RK_CHECK(input.settings != nullptr);
  const Matrix64& w = *input.weight;
  if (IsWeighted(input) && input.moments == nullptr) {
    return absl::InvalidArgumentError(
        "--weighting full needs a calibration text: give --calibration FILE or --statistics of "
        "rankine calibrate, or --weighting none");
  }
  RK_RETURN_IF_ERROR(CheckFinite(w));
  std::vector<Candidate> candidates;
  if (const std::string& text = input.settings->Word("shape"); !text.empty()) {
    RK_ASSIGN_OR_RETURN(MpoShape shape, ParseMpoShape(text, w.rows, w.cols));
    RK_ASSIGN_OR_RETURN(Candidate given, CandidateOf(input, std::move(shape)));
    if (given.bond != 0) candidates.push_back(std::move(given));
  } else {
    RK_ASSIGN_OR_RETURN(candidates, Candidates(input));
  }
  if (candidates.empty()) return Factorization{};
  RK_ASSIGN_OR_RETURN(const Mpo best, IsWeighted(input)
                                          ? BestUnder(input.moments->second, w, candidates)
                                          : BestInFrobenius(w, candidates));
  return Store(input, best);
}

}  // namespace rankine
