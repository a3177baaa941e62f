#include "tools/compress/mpo_shape.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"
#include "tools/compress/tensor_train.h"

namespace rankine {
namespace {

constexpr size_t kMaxSites = 4;
constexpr int64_t kSuperBlock = 256;  // weights under one super-scale of two-level encodings
constexpr int64_t kCodeword = 8;      // weights of an E8P codeword

// All ways to write n as so many factors of at least 2, in order.
void Factorisations(int64_t n, int count, std::vector<int64_t>* prefix,
                    std::vector<std::vector<int64_t>>* all) {
  if (count == 1) {
    if (n < 2) return;
    all->push_back(*prefix);
    all->back().push_back(n);
    return;
  }
  for (int64_t d = 2; d <= n / 2; ++d) {
    if (n % d != 0) continue;
    prefix->push_back(d);
    Factorisations(n / d, count - 1, prefix, all);
    prefix->pop_back();
  }
}

std::vector<std::vector<int64_t>> Factorisations(int64_t n, int count) {
  std::vector<int64_t> prefix;
  std::vector<std::vector<int64_t>> all;
  Factorisations(n, count, &prefix, &all);
  return all;
}

std::vector<int64_t> SiteExtents(const MpoShape& shape) {
  std::vector<int64_t> extents;
  for (const MpoSite& site : shape) extents.push_back(site.out * site.in);
  return extents;
}

// out_1, .., out_K, in_1, .., in_K
std::vector<int64_t> SplitExtents(const MpoShape& shape) {
  std::vector<int64_t> extents;
  for (const MpoSite& site : shape) extents.push_back(site.out);
  for (const MpoSite& site : shape) extents.push_back(site.in);
  return extents;
}

// Bonds with the ends: 1, x_1, .., 1.
std::vector<int64_t> AllBonds(const MpoShape& shape, int64_t bond) {
  std::vector<int64_t> bonds = MpoBonds(shape, bond);
  bonds.insert(bonds.begin(), 1);
  bonds.push_back(1);
  return bonds;
}

int64_t Size(const MpoShape& shape) {
  int64_t size = 1;
  for (const MpoSite& site : shape) size *= site.out * site.in;
  return size;
}

absl::Status BadShape(std::string_view text, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("--shape ", std::string(text), ": ", why,
                   "; give OUTxIN of 2 to 4 sites with commas between, as 24x24,36x16"));
}

// Bonds that are no whole groups, as short sites make them, would be decoded at load.
absl::Status CheckGroups(const MpoShape& shape, int64_t bond, int64_t multiple) {
  for (const int64_t b : MpoBonds(shape, bond)) {
    if (b % multiple == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("bond ", b, " of ", Name(shape), " is no multiple of the encoding's group ",
                     multiple, "; choose another --shape, fewer --sites or a smaller group"));
  }
  return absl::OkStatus();
}

// The largest bond in [0, high] that fits; `fits` falls from true to false.
template <class Fits>
int64_t LargestThat(int64_t high, const Fits& fits) {
  int64_t low = 0;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    fits(middle) ? low = middle : high = middle - 1;
  }
  return low;
}

absl::Status BelowBudget(const MpoShape& shape, int64_t least, const Encoding& encoding) {
  const auto numbers = static_cast<double>(MpoParameters(shape, least));
  return absl::InvalidArgumentError(absl::StrCat(
      "the budget is below bond ", least, " of ", Name(shape), ": ", numbers, " numbers, ",
      numbers / static_cast<double>(Size(shape)), " of the dense ones, ",
      MpoBits(shape, least, encoding), " bits; raise it, or leave the linear out with --skip"));
}

}  // namespace

std::string Name(const MpoShape& shape) {
  std::string name;
  for (const MpoSite& site : shape) {
    absl::StrAppend(&name, name.empty() ? "" : ",", site.out, "x", site.in);
  }
  return name;
}

absl::StatusOr<MpoShape> ParseMpoShape(std::string_view text, int64_t m, int64_t n) {
  MpoShape shape;
  double outs = 1, ins = 1;  // cannot overflow
  for (const auto& part : absl::StrSplit(std::string(text), ',')) {
    const std::pair<std::string, std::string> sides = absl::StrSplit(part, absl::MaxSplits('x', 1));
    MpoSite site;
    if (!absl::SimpleAtoi(sides.first, &site.out) || !absl::SimpleAtoi(sides.second, &site.in) ||
        site.out < 1 || site.in < 1) {
      return BadShape(text, absl::StrCat("'", std::string(part), "' is no site"));
    }
    outs *= static_cast<double>(site.out);
    ins *= static_cast<double>(site.in);
    shape.push_back(site);
  }
  if (shape.size() < 2 || shape.size() > kMaxSites) {
    return BadShape(text, absl::StrCat(shape.size(), " sites"));
  }
  if (outs != static_cast<double>(m) || ins != static_cast<double>(n)) {
    return BadShape(text, absl::StrCat("the sites multiply to ", outs, " x ", ins,
                                       ", but the matrix is ", m, " x ", n));
  }
  return shape;
}

std::vector<MpoShape> MpoShapes(int64_t m, int64_t n, int sites) {
  const auto outs = Factorisations(m, sites), ins = Factorisations(n, sites);
  std::vector<MpoShape> shapes;
  for (const auto& out : outs) {
    for (const auto& in : ins) {
      MpoShape& shape = shapes.emplace_back();
      for (size_t k = 0; k < out.size(); ++k) shape.push_back({out[k], in[k]});
    }
  }
  return shapes;
}

std::vector<int64_t> MpoBonds(const MpoShape& shape, int64_t bond) {
  std::vector<int64_t> bonds = LargestBonds(SiteExtents(shape));
  for (int64_t& b : bonds) b = std::min(b, bond);
  return bonds;
}

int64_t LargestBond(const MpoShape& shape) {
  const std::vector<int64_t> bonds = LargestBonds(SiteExtents(shape));
  return *std::max_element(bonds.begin(), bonds.end());
}

int64_t MpoParameters(const MpoShape& shape, int64_t bond) {
  const std::vector<int64_t> x = AllBonds(shape, bond);
  int64_t numbers = 0;
  for (size_t k = 0; k < shape.size(); ++k) {
    numbers += x[k] * shape[k].out * shape[k].in * x[k + 1];
  }
  return numbers;
}

int64_t MpoBits(const MpoShape& shape, int64_t bond, const Encoding& encoding) {
  if (encoding.IsFloat()) {
    return 8 * static_cast<int64_t>(SizeOf(encoding.dtype)) * MpoParameters(shape, bond);
  }
  const std::vector<int64_t> x = AllBonds(shape, bond);
  int64_t bytes = 0;
  for (size_t k = 0; k < shape.size(); ++k) {
    const int64_t rows = x[k] * shape[k].out;
    const bool last = k + 1 == shape.size();
    bytes += last ? StoredBytes(encoding, rows, shape[k].in)
                  : StoredBytes(encoding, rows * shape[k].in, x[k + 1]);
  }
  return 8 * bytes;
}

int64_t MpoOperations(const MpoShape& shape, int64_t bond) {
  const std::vector<int64_t> x = AllBonds(shape, bond);
  // Legs that the core of a site does not sum or add: inputs before it, outputs behind it.
  int64_t inputs = 1, outputs = 1, operations = 0;
  for (const MpoSite& site : shape) inputs *= site.in;
  for (size_t k = shape.size(); k-- > 0;) {
    inputs /= shape[k].in;
    operations += inputs * outputs * x[k] * shape[k].out * shape[k].in * x[k + 1];
    outputs *= shape[k].out;
  }
  return operations;
}

absl::StatusOr<int64_t> BondMultiple(const Encoding& encoding) {
  if (encoding.IsFloat()) return 1;
  if (encoding.kind == EncodingKind::kE8P) return kCodeword;
  if (encoding.group == 0) {
    return absl::InvalidArgumentError(
        "cores with two summed legs cannot have whole rows as groups: give --factor-encode a "
        "group, as int4:g32");
  }
  const bool two_level = encoding.HasTwoLevelScales() || encoding.offset == OffsetKind::kTwoLevel;
  return two_level ? kSuperBlock : encoding.group;
}

absl::StatusOr<int64_t> BondWithin(const Budget& budget, const MpoShape& shape,
                                   const Encoding& encoding) {
  const int64_t most = LargestBond(shape);
  RK_ASSIGN_OR_RETURN(const int64_t least, BondMultiple(encoding));
  if (budget.rank != 0) {
    if (budget.rank < 1 || budget.rank > most) {
      return absl::InvalidArgumentError(
          absl::StrCat("bond ", budget.rank, " is outside [1, ", most, "] of ", Name(shape)));
    }
    RK_RETURN_IF_ERROR(CheckGroups(shape, budget.rank, least));
    return budget.rank;
  }
  RK_RETURN_IF_ERROR(CheckGroups(shape, least, least));
  const auto smaller = [&](int64_t b) { return MpoParameters(shape, b) < Size(shape); };
  int64_t bond = encoding.IsFloat() ? LargestThat(most, smaller) : most;
  if (bond == 0 || (budget.parameters >= static_cast<double>(Size(shape)) && budget.bits <= 0)) {
    return 0;
  }
  bond = LargestThat(bond, [&](int64_t b) {
    const bool numbers =
        budget.parameters <= 0 || static_cast<double>(MpoParameters(shape, b)) <= budget.parameters;
    return numbers &&
           (budget.bits <= 0 || static_cast<double>(MpoBits(shape, b, encoding)) <= budget.bits);
  });
  if (bond < least) return BelowBudget(shape, least, encoding);
  const int64_t multiple = std::lcm(least, std::max<int64_t>(budget.rank_multiple, 1));
  bond -= bond % (bond >= multiple ? multiple : least);
  RK_RETURN_IF_ERROR(CheckGroups(shape, bond, least));
  return bond;
}

Tensor64 ToSites(const Matrix64& w, const MpoShape& shape) {
  std::vector<size_t> modes;
  for (size_t k = 0; k < shape.size(); ++k) {
    modes.push_back(k);
    modes.push_back(shape.size() + k);
  }
  Tensor64 t = Permuted(Tensor64(SplitExtents(shape), w.values), modes);
  return Tensor64(SiteExtents(shape), std::move(t.values));
}

Matrix64 FromSites(const Tensor64& t, const MpoShape& shape) {
  std::vector<int64_t> extents;
  std::vector<size_t> modes;
  Matrix64 w;
  w.rows = w.cols = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    extents.push_back(shape[k].out);
    extents.push_back(shape[k].in);
    modes.push_back(2 * k);
    w.rows *= shape[k].out;
    w.cols *= shape[k].in;
  }
  for (size_t k = 0; k < shape.size(); ++k) modes.push_back(2 * k + 1);
  w.values = Permuted(Tensor64(extents, t.values), modes).values;
  return w;
}

}  // namespace rankine
