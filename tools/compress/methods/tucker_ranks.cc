#include "tools/compress/methods/tucker_ranks.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/status_macros.h"
#include "tools/compress/methods/budget.h"
#include "tools/compress/tucker_decomposition.h"

namespace rankine {
namespace {

using Ranks = std::vector<int64_t>;

// Of each small mode so many ranks are tried, evenly spaced.
constexpr int64_t kTriedRanks = 16;
// Of those pairs, the most promising whose eigenvalues are computed: each costs the cube of the
// product of its ranks.
constexpr int kMeasuredPairs = 24;

int64_t Volume(const Ranks& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

int64_t Numbers(const TuckerModes& modes, const Ranks& ranks) {
  int64_t numbers = Volume(ranks);
  for (size_t k = 0; k < ranks.size(); ++k) {
    if (ranks[k] < modes.extents[k]) numbers += ranks[k] * modes.extents[k];
  }
  return numbers;
}

int64_t Bits(const TuckerModes& modes, const Ranks& ranks, const Encoding& e) {
  int64_t bits = CoreBits(e, Volume(ranks) / ranks.back(), ranks.back());
  for (size_t k = 0; k < ranks.size(); ++k) {
    const int64_t rank = ranks[k], extent = modes.extents[k];
    if (rank == extent) continue;
    bits += k < modes.outputs ? CoreBits(e, extent, rank) : CoreBits(e, rank, extent);
  }
  return bits;
}

bool Fits(const MethodInput& input, const TuckerModes& modes, const Ranks& ranks) {
  const Budget& b = input.budget;
  const int64_t numbers = Numbers(modes, ranks);
  if (input.encoding.IsFloat() && numbers >= Volume(modes.extents)) return false;
  if (b.parameters > 0 && static_cast<double>(numbers) > b.parameters) return false;
  return b.bits <= 0 || static_cast<double>(Bits(modes, ranks, input.encoding)) <= b.bits;
}

size_t LargestMode(const TuckerModes& modes) {
  return static_cast<size_t>(std::max_element(modes.extents.begin(), modes.extents.end()) -
                             modes.extents.begin());
}

// The ranks with the largest mode's as high as the budget allows; 0 there where none is. In full
// the mode has no factor, so that it may fit where lower ranks do not, and it drops nothing.
Ranks Filled(const MethodInput& input, const TuckerModes& modes, Ranks ranks, size_t big) {
  ranks[big] = modes.extents[big];
  if (Fits(input, modes, ranks)) return ranks;
  ranks[big] = 1;
  const int64_t others = Volume(ranks);
  int64_t low = 0, high = std::min(modes.extents[big], others);
  while (low < high) {
    ranks[big] = (low + high + 1) / 2;
    Fits(input, modes, ranks) ? low = ranks[big] : high = ranks[big] - 1;
  }
  const int64_t multiple = std::max<int64_t>(input.budget.rank_multiple, 1);
  ranks[big] = low - (low >= multiple ? low % multiple : 0);
  return ranks;
}

std::vector<int64_t> Tried(int64_t extent) {
  const int64_t step = (extent + kTriedRanks - 1) / kTriedRanks;
  std::vector<int64_t> tried;
  for (int64_t r = extent; r > 0; r -= step) tried.push_back(r);
  if (tried.back() != 1) tried.push_back(1);
  return tried;
}

// The unfolding [big, the others] in the bases of the other modes' HOSVD; slices that keep most
// first.
absl::StatusOr<Matrix64> RotatedUnfolding(const Tensor64& t, size_t big) {
  Tensor64 rotated = t;
  for (size_t k = 0; k < t.order(); ++k) {
    if (k == big) continue;
    const Matrix64 unfolding = Unfold(t, k);
    RK_ASSIGN_OR_RETURN(const SvdFactors f, TruncatedSvd(unfolding, t.extents[k]));
    rotated = ModeProduct(rotated, k, Transposed(f.u));
  }
  return Unfold(rotated, big);
}

// The squared singular values.
absl::StatusOr<std::vector<double>> SpectrumOf(const Matrix64& unfolding) {
  return Eigenvalues(unfolding.cols <= unfolding.rows
                         ? MatrixProduct(Transposed(unfolding), unfolding)
                         : MatrixProduct(unfolding, Transposed(unfolding)));
}

double SumOfFirst(const std::vector<double>& values, int64_t count) {
  const auto end = values.begin() + std::min(count, static_cast<int64_t>(values.size()));
  return std::accumulate(values.begin(), end, 0.0);
}

// Searches the ranks of a three-mode tensor: each pair of the two small modes, the large one filled
// up. What a choice keeps is judged from the HOSVD: the largest squared singular values of its part
// of the unfolding. Those of a part interlace with those of the whole, so both their sum and the
// largest of the whole bound what it keeps: pairs are measured from the highest bound down, and
// the search ends where no bound exceeds what the best keeps (or after kMeasuredPairs).
class RankSearch {
 public:
  RankSearch(const MethodInput& input, const TuckerModes& modes, const Matrix64& unfolding)
      : input_(input),
        modes_(modes),
        unfolding_(unfolding),
        energies_(static_cast<size_t>(unfolding.cols)),
        big_(LargestMode(modes)) {
    for (int64_t i = 0; i < unfolding.rows; ++i) {
      for (int64_t j = 0; j < unfolding.cols; ++j) {
        energies_[static_cast<size_t>(j)] += unfolding(i, j) * unfolding(i, j);
      }
    }
    size_t count = 0;
    for (size_t k = 0; k < 3; ++k) {
      if (k != big_) small_[count++] = k;
    }
  }

  // Empty: no pair fits.
  absl::StatusOr<Ranks> Run() const {
    RK_ASSIGN_OR_RETURN(const std::vector<double> whole, SpectrumOf(unfolding_));
    const std::vector<Pair> pairs = Pairs(whole);
    double kept = -1;
    int measured = 0;
    Ranks best;
    for (const Pair& pair : pairs) {
      if (pair.bound <= kept || measured == kMeasuredPairs) break;
      double keeps = pair.bound;
      if (!pair.is_exact) {
        RK_ASSIGN_OR_RETURN(const std::vector<double> values, SpectrumOf(Part(pair.ranks)));
        keeps = SumOfFirst(values, pair.ranks[big_]);
        ++measured;
      }
      if (keeps <= kept) continue;
      kept = keeps;
      best = pair.ranks;
    }
    return best;
  }

 private:
  struct Pair {
    Ranks ranks;
    double bound = 0;       // of the squared norm that it keeps
    bool is_exact = false;  // keeps just that
  };

  // Those that fit, the highest bound first.
  std::vector<Pair> Pairs(const std::vector<double>& whole) const {
    std::vector<Pair> pairs;
    for (const int64_t a : Tried(modes_.extents[small_[0]])) {
      for (const int64_t b : Tried(modes_.extents[small_[1]])) {
        Ranks ranks(3);
        ranks[small_[0]] = a;
        ranks[small_[1]] = b;
        ranks = Filled(input_, modes_, std::move(ranks), big_);
        if (ranks[big_] == 0 || !CheckRanks(modes_.extents, ranks).ok()) continue;
        const int64_t rank = ranks[big_];
        const double trace = TraceOfPart(ranks);
        const bool is_full = rank >= a * b || rank == modes_.extents[big_];
        const bool is_whole = a * b == unfolding_.cols;
        const double bound = is_full ? trace : std::min(trace, SumOfFirst(whole, rank));
        pairs.push_back({std::move(ranks), bound, is_full || is_whole});
      }
    }
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const Pair& a, const Pair& b) { return a.bound > b.bound; });
    return pairs;
  }

  // The column of the unfolding that is column i of the part that the ranks keep.
  int64_t ColumnOf(int64_t i, const Ranks& ranks) const {
    const int64_t b = ranks[small_[1]];
    return i / b * modes_.extents[small_[1]] + i % b;
  }

  double TraceOfPart(const Ranks& ranks) const {
    double trace = 0;
    for (int64_t i = 0; i < ranks[small_[0]] * ranks[small_[1]]; ++i) {
      trace += energies_[static_cast<size_t>(ColumnOf(i, ranks))];
    }
    return trace;
  }

  Matrix64 Part(const Ranks& ranks) const {
    const int64_t size = ranks[small_[0]] * ranks[small_[1]];
    Matrix64 part(unfolding_.rows, size);
    for (int64_t i = 0; i < unfolding_.rows; ++i) {
      const double* from = unfolding_.Row(i);
      for (int64_t j = 0; j < size; ++j) part(i, j) = from[ColumnOf(j, ranks)];
    }
    return part;
  }

  const MethodInput& input_;
  const TuckerModes& modes_;
  const Matrix64& unfolding_;
  std::vector<double> energies_;  // of its columns
  const size_t big_;
  std::array<size_t, 2> small_{};
};

absl::StatusOr<Ranks> GivenRanks(const std::string& text, const MethodInput& input,
                                 const TuckerModes& modes) {
  Ranks ranks;
  for (const auto& part : absl::StrSplit(text, ',')) {
    int64_t rank = 0;
    if (!absl::SimpleAtoi(part, &rank)) {
      return absl::InvalidArgumentError(absl::StrCat("--ranks ", text, ": '", std::string(part),
                                                     "' is no rank; give them as 8,48,200"));
    }
    ranks.push_back(rank);
  }
  if (auto status = CheckRanks(modes.extents, ranks); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--ranks ", text, ": ", status.message()));
  }
  const Budget& b = input.budget;
  const int64_t numbers = Numbers(modes, ranks), bits = Bits(modes, ranks, input.encoding);
  if ((b.parameters > 0 && static_cast<double>(numbers) > b.parameters) ||
      (b.bits > 0 && static_cast<double>(bits) > b.bits)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ranks ", text, " take ", numbers, " numbers, ", bits,
                     " bits, more than the budget: raise --keep, or lower them"));
  }
  return ranks;
}

absl::StatusOr<Ranks> EqualRanks(int64_t rank, const TuckerModes& modes) {
  const int64_t most = *std::max_element(modes.extents.begin(), modes.extents.end());
  if (rank < 1 || rank > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", rank, " is outside [1, ", most, "], the largest mode"));
  }
  Ranks ranks;
  for (const int64_t extent : modes.extents) ranks.push_back(std::min(rank, extent));
  for (size_t k = 0; k < ranks.size(); ++k) {
    ranks[k] = std::min(ranks[k], Volume(ranks) / ranks[k]);
  }
  return ranks;
}

}  // namespace

absl::StatusOr<Ranks> TuckerRanks(const MethodInput& input, const TuckerModes& modes,
                                  const Tensor64& t) {
  const std::string& given = input.settings->Word("ranks");
  if (!given.empty()) return GivenRanks(given, input, modes);
  const Budget& b = input.budget;
  if (b.rank != 0) return EqualRanks(b.rank, modes);
  const auto size = static_cast<double>(Volume(modes.extents));
  if (b.parameters >= size && b.bits <= 0) return Ranks{};
  Ranks least(modes.extents.size(), 1);
  const bool no_form = input.encoding.IsFloat() && Numbers(modes, least) >= Volume(modes.extents);
  if (no_form) return Ranks{};
  Ranks ranks;
  if (modes.extents.size() == 2) {
    // Of A [o, a] G [a, b] B [b, i] what is kept depends on min(a, b) alone, so the best pair for a
    // budget spends nothing on the third core: the smaller side in full, the other as far as it
    // goes.
    const size_t big = LargestMode(modes);
    ranks = {modes.extents[0], modes.extents[1]};
    ranks = Filled(input, modes, ranks, big);
    if (ranks[big] == 0) ranks.clear();
  } else {
    RK_ASSIGN_OR_RETURN(const Matrix64 unfolding, RotatedUnfolding(t, LargestMode(modes)));
    RK_ASSIGN_OR_RETURN(ranks, RankSearch(input, modes, unfolding).Run());
  }
  if (!ranks.empty()) return ranks;
  if (Fits(input, modes, least)) return least;
  return absl::InvalidArgumentError(absl::StrCat(
      "the budget is below rank 1 of every mode: ", Numbers(modes, least), " numbers, ",
      static_cast<double>(Numbers(modes, least)) / size, " of the dense ones, ",
      Bits(modes, least, input.encoding), " bits; raise it, or leave the linear out with --skip"));
}

}  // namespace rankine
