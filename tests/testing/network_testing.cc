#include "tests/testing/network_testing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "tests/testing/block_testing.h"

namespace rankine {
namespace {

int64_t Stored(const LegRange& leg) {
  return leg.stored_extent != 0 ? leg.stored_extent : leg.extent;
}

// All values of a core as stored.
std::vector<float> Tensor(const Core& core, const MemorySource& source) {
  if (core.encoding.IsFloat()) return source.at(core.TensorOf("values"));
  const BlockRowsBuffer& blocks = source.blocks(core.tensors[0].tensor);
  std::vector<float> values(blocks.rows * blocks.cols);
  for (int64_t row = 0; row < blocks.rows; ++row)
    DecodeBlockRow(blocks.view(), row, values.data() + row * blocks.cols);
  return values;
}

// With the identity in front that a core may imply.
std::vector<float> Decoded(const Core& core, const MemorySource& source) {
  const std::vector<float> stored = Tensor(core, source);
  if (!core.leading_identity) return stored;
  const int64_t r = core.legs[1].extent;
  std::vector<float> values(r * r, 0.0f);
  for (int64_t i = 0; i < r; ++i) values[i * r + i] = 1.0f;
  values.insert(values.end(), stored.begin(), stored.end());
  return values;
}

// A tensor with named legs, of which the first may be rows of x.
struct Named {
  std::vector<std::string> legs;
  std::vector<int64_t> extents;
  std::vector<double> data;
};

int64_t Size(const std::vector<int64_t>& extents) {
  return std::accumulate(extents.begin(), extents.end(), int64_t{1}, std::multiplies<>());
}

Named Sliced(const Core& core, const MemorySource& source, bool absolute,
             const std::string& sorted_leg, int64_t rank) {
  Named result;
  for (const LegRange& leg : core.legs) {
    result.legs.push_back(leg.name);
    result.extents.push_back(rank > 0 && leg.name == sorted_leg ? std::min(rank, leg.extent)
                                                                : leg.extent);
  }
  const std::vector<float> values = Decoded(core, source);
  for (int64_t i = 0; i < Size(result.extents); ++i) {
    int64_t rest = i, at = 0, stride = 1;
    for (size_t l = core.legs.size(); l-- > 0;) {
      at += (rest % result.extents[l] + core.legs[l].offset) * stride;
      rest /= result.extents[l];
      stride *= Stored(core.legs[l]);
    }
    const double v = values[at];
    result.data.push_back(absolute ? std::abs(v) : v);
  }
  return result;
}

// Contracts two tensors over the legs that `kept` does not name.
Named Contract(const Named& a, const Named& b, const std::vector<std::string>& kept) {
  std::map<std::string, int64_t> extent;
  for (const Named* t : {&a, &b}) {
    for (size_t i = 0; i < t->legs.size(); ++i) extent[t->legs[i]] = t->extents[i];
  }
  Named result;
  std::vector<std::string> order;
  for (const auto& [leg, size] : extent) {
    if (std::find(kept.begin(), kept.end(), leg) == kept.end()) continue;
    order.push_back(leg);
    result.legs.push_back(leg);
    result.extents.push_back(size);
  }
  for (const auto& [leg, size] : extent) {
    if (std::find(order.begin(), order.end(), leg) == order.end()) order.push_back(leg);
  }
  auto strides = [&](const Named& t) {
    std::vector<int64_t> of(order.size(), 0);
    int64_t stride = 1;
    for (size_t i = t.legs.size(); i-- > 0;) {
      of[std::find(order.begin(), order.end(), t.legs[i]) - order.begin()] = stride;
      stride *= t.extents[i];
    }
    return of;
  };
  const std::vector<int64_t> sa = strides(a), sb = strides(b);
  const int64_t kept_size = Size(result.extents);
  int64_t all = 1;
  for (const std::string& leg : order) all *= extent[leg];
  const int64_t summed = all / kept_size;
  result.data.assign(kept_size, 0.0);
  std::vector<int64_t> extents;
  for (const std::string& leg : order) extents.push_back(extent[leg]);
  for (int64_t i = 0; i < all; ++i) {
    int64_t rest = i, at_a = 0, at_b = 0;
    for (size_t l = order.size(); l-- > 0;) {
      const int64_t digit = rest % extents[l];
      rest /= extents[l];
      at_a += digit * sa[l];
      at_b += digit * sb[l];
    }
    result.data[i / summed] += a.data[at_a] * b.data[at_b];
  }
  return result;
}

// The cores of all terms.
using TermCores = std::vector<std::vector<Named>>;

TermCores DecodedTerms(const FactoredMatrix& m, const MemorySource& source, bool absolute,
                       int64_t rank) {
  TermCores result;
  for (const Term& term : m.terms) {
    result.emplace_back();
    for (const Core& core : term.cores)
      result.back().push_back(Sliced(core, source, absolute, m.sorted_leg, rank));
  }
  return result;
}

// One term times x [in_features] as legs.
std::vector<double> TermOutput(const FactoredMatrix& m, const Term& term,
                               const std::vector<Named>& cores, const std::vector<double>& x) {
  Named state;
  for (const OuterLeg& leg : m.input_legs) {
    state.legs.push_back(leg.name);
    state.extents.push_back(leg.extent);
  }
  state.data = x;
  for (size_t c = term.cores.size(); c-- > 0;) {
    std::vector<std::string> kept;
    for (const OuterLeg& leg : m.output_legs) kept.push_back(leg.name);
    for (size_t other = 0; other < c; ++other) {
      for (const LegRange& leg : term.cores[other].legs) kept.push_back(leg.name);
    }
    state = Contract(state, cores[c], kept);
  }
  // Into the order of the output legs.
  std::vector<double> result(m.out_features);
  for (int64_t o = 0; o < m.out_features; ++o) {
    int64_t rest = o, at = 0;
    std::map<std::string, int64_t> digit;
    for (size_t l = m.output_legs.size(); l-- > 0;) {
      digit[m.output_legs[l].name] = rest % m.output_legs[l].extent;
      rest /= m.output_legs[l].extent;
    }
    for (size_t l = 0; l < state.legs.size(); ++l)
      at = at * state.extents[l] + digit[state.legs[l]];
    result[o] = state.data[at];
  }
  return result;
}

double Hadamard(int64_t a, int64_t b) {
  return __builtin_popcountll(static_cast<uint64_t>(a & b)) % 2 == 0 ? 1.0 : -1.0;
}

std::vector<double> Applied(const Transform& t, const MemorySource& source,
                            const std::vector<double>& x, bool absolute) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<double> y(n);
  if (t.kind == Transform::Kind::kPermutation) {
    for (int64_t i = 0; i < n; ++i) y[i] = x[source.indices(t.tensor)[i]];
    return y;
  }
  const std::vector<float>& signs = source.at(t.tensor);
  const int64_t b = t.block_tensor.empty() ? 1 : *source.NumRows(t.block_tensor);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const int64_t row = t.transposed ? j : i, col = t.transposed ? i : j;
      double h = Hadamard(row / b, col / b) * signs[col] / std::sqrt(static_cast<double>(n / b));
      if (b > 1) h *= source.at(t.block_tensor)[row % b * b + col % b];
      y[i] += (absolute ? std::abs(h) : h) * x[j];
    }
  }
  return y;
}

std::vector<double> MatrixOutput(const FactoredMatrix& m, const MemorySource& source,
                                 const TermCores& terms, std::vector<double> x, bool absolute) {
  for (const Transform& t : m.input_transforms) x = Applied(t, source, x, absolute);
  std::vector<double> y(m.out_features, 0.0);
  for (size_t term = 0; term < terms.size(); ++term) {
    const std::vector<double> part = TermOutput(m, m.terms[term], terms[term], x);
    for (int64_t o = 0; o < m.out_features; ++o) y[o] += part[o];
  }
  for (const Transform& t : m.output_transforms) y = Applied(t, source, y, absolute);
  if (m.bias_tensor.empty()) return y;
  for (int64_t o = 0; o < m.out_features; ++o) {
    const double bias = source.at(m.bias_tensor)[o];
    y[o] += absolute ? std::abs(bias) : bias;
  }
  return y;
}

}  // namespace

Core RandomCore(MemorySource* source, const std::string& tensor, const std::string& name,
                std::vector<LegRange> legs, const Encoding& encoding, uint32_t seed) {
  Core core{.name = name, .legs = std::move(legs), .encoding = encoding};
  int64_t rows = 1, cols = 1;
  if (encoding.IsFloat()) {
    core.tensors = {{"values", tensor}};
    for (size_t i = 0; i < core.legs.size(); ++i)
      (i == 0 && core.legs.size() > 1 ? rows : cols) *= Stored(core.legs[i]);
    source->AddRandom(tensor, rows, cols, seed, core.legs.size() == 1 ? 1.0 : 0);
    return core;
  }
  core.tensors = {{"codes", tensor}};
  cols = Stored(core.legs.back());
  for (size_t i = 0; i + 1 < core.legs.size(); ++i) rows *= Stored(core.legs[i]);
  std::mt19937 random(seed);
  source->AddBlocks(tensor, RandomBlockRows(encoding, rows, cols, random));
  return core;
}

FactoredMatrix RandomDense(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                           const Encoding& encoding, uint32_t seed) {
  FactoredMatrix m{.name = name, .out_features = out, .in_features = in};
  m.output_legs = {{"o", out}};
  m.input_legs = {{"i", in}};
  m.terms = {
      Term{{RandomCore(source, name + ".W", "W", {{"o", 0, out}, {"i", 0, in}}, encoding, seed)}}};
  return m;
}

FactoredMatrix RandomSvd(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                         int64_t rank, const Encoding& encoding, uint32_t seed) {
  FactoredMatrix m = RandomDense(source, name, out, in, Encoding::Float(DType::kF32), seed);
  const LegRange o{"o", 0, out}, i{"i", 0, in}, r{"r", 0, rank};
  m.terms = {
      Term{{RandomCore(source, name + ".U", "U", {o, r}, encoding, seed + 1),
            RandomCore(source, name + ".S", "S", {r}, Encoding::Float(DType::kF32), seed + 2),
            RandomCore(source, name + ".V", "V", {r, i}, encoding, seed + 3)}}};
  m.sorted_leg = "r";
  return m;
}

FactoredMatrix RandomPivoted(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                             int64_t rank, const Encoding& encoding, uint32_t seed) {
  FactoredMatrix m = RandomDense(source, name, out, in, Encoding::Float(DType::kF32), seed);
  const LegRange i{"i", 0, in}, r{"r", 0, rank};
  Core c = RandomCore(source, name + ".C", "C", {{"o", 0, out - rank}, r}, encoding, seed + 1);
  c.legs[0].extent = out;
  c.leading_identity = true;
  m.terms = {Term{{c, RandomCore(source, name + ".P", "P", {r, i}, encoding, seed + 2)}}};
  m.output_transforms = {RandomPermutation(source, name, out, seed + 3)};
  return m;
}

FactoredMatrix RandomTucker(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                            int64_t a, int64_t b, const Encoding& encoding, uint32_t seed) {
  FactoredMatrix m = RandomDense(source, name, out, in, Encoding::Float(DType::kF32), seed);
  const LegRange o{"o", 0, out}, i{"i", 0, in}, la{"a", 0, a}, lb{"b", 0, b};
  m.terms = {Term{{RandomCore(source, name + ".A", "A", {o, la}, encoding, seed + 1),
                   RandomCore(source, name + ".G", "G", {la, lb}, encoding, seed + 2),
                   RandomCore(source, name + ".B", "B", {lb, i}, encoding, seed + 3)}}};
  return m;
}

FactoredMatrix RandomTucker3(MemorySource* source, const std::string& name, int64_t o1, int64_t o2,
                             int64_t in, int64_t a, int64_t b, int64_t c, const Encoding& encoding,
                             uint32_t seed) {
  FactoredMatrix m{.name = name, .out_features = o1 * o2, .in_features = in};
  m.output_legs = {{"o1", o1}, {"o2", o2}};
  m.input_legs = {{"i", in}};
  const LegRange la{"a", 0, a}, lb{"b", 0, b}, lc{"c", 0, c};
  m.terms = {Term{{RandomCore(source, name + ".A", "A", {{"o1", 0, o1}, la}, encoding, seed + 1),
                   RandomCore(source, name + ".B", "B", {{"o2", 0, o2}, lb}, encoding, seed + 2),
                   RandomCore(source, name + ".C", "C", {{"i", 0, in}, lc}, encoding, seed + 3),
                   RandomCore(source, name + ".G", "G", {la, lb, lc}, encoding, seed + 4)}}};
  return m;
}

FactoredMatrix RandomMpo(MemorySource* source, const std::string& name,
                         const std::vector<int64_t>& out_sites,
                         const std::vector<int64_t>& in_sites, int64_t bond,
                         const Encoding& encoding, uint32_t seed) {
  FactoredMatrix m{.name = name, .out_features = 1, .in_features = 1};
  Term term;
  const size_t sites = out_sites.size();
  for (size_t s = 0; s < sites; ++s) {
    const std::string n = std::to_string(s + 1), before = "x" + std::to_string(s);
    m.output_legs.push_back({"o" + n, out_sites[s]});
    m.input_legs.push_back({"i" + n, in_sites[s]});
    m.out_features *= out_sites[s];
    m.in_features *= in_sites[s];
    std::vector<LegRange> legs;
    if (s > 0) legs.push_back({before, 0, bond});
    legs.push_back({"o" + n, 0, out_sites[s]});
    legs.push_back({"i" + n, 0, in_sites[s]});
    if (s + 1 < sites) legs.push_back({"x" + n, 0, bond});
    term.cores.push_back(RandomCore(source, name + "." + n, "C" + n, std::move(legs), encoding,
                                    seed + static_cast<uint32_t>(s)));
  }
  m.terms = {std::move(term)};
  return m;
}

void AddRandomBias(MemorySource* source, FactoredMatrix* matrix, uint32_t seed) {
  matrix->bias_tensor = matrix->name + ".bias";
  source->AddRandom(matrix->bias_tensor, 1, matrix->out_features, seed, 1.0);
}

Transform RandomHadamard(MemorySource* source, const std::string& name, int64_t features,
                         bool transposed, uint32_t seed) {
  Transform t{.kind = Transform::Kind::kHadamard, .tensor = name + ".signs"};
  t.transposed = transposed;
  std::mt19937 random(seed);
  std::vector<float> signs(features);
  for (float& s : signs) s = random() % 2 == 0 ? 1.0f : -1.0f;
  source->Add(t.tensor, 1, features, std::move(signs));
  const int64_t b = features / (features & -features);
  if (b == 1) return t;
  // A Householder reflection: orthogonal, not symmetric after its rows are rotated.
  std::vector<double> v(b);
  double norm = 0;
  for (double& e : v) {
    e = static_cast<double>(random() % 1000) + 1;
    norm += e * e;
  }
  std::vector<float> block(b * b);
  for (int64_t i = 0; i < b; ++i) {
    for (int64_t j = 0; j < b; ++j)
      block[(i + 1) % b * b + j] =
          static_cast<float>((i == j ? 1.0 : 0.0) - 2 * v[i] * v[j] / norm);
  }
  t.block_tensor = name + ".block";
  source->Add(t.block_tensor, b, b, std::move(block));
  return t;
}

Transform RandomPermutation(MemorySource* source, const std::string& name, int64_t features,
                            uint32_t seed) {
  std::vector<int32_t> indices(features);
  std::iota(indices.begin(), indices.end(), 0);
  std::shuffle(indices.begin(), indices.end(), std::mt19937(seed));
  source->AddIndices(name + ".indices", std::move(indices));
  return {.kind = Transform::Kind::kPermutation, .tensor = name + ".indices"};
}

std::vector<double> ReferenceOutput(const FactoredMatrix& m, const MemorySource& source,
                                    const std::vector<float>& x, int64_t rows,
                                    std::vector<double>* magnitude, int64_t rank) {
  std::vector<double> result;
  if (magnitude != nullptr) magnitude->clear();
  const TermCores exact = DecodedTerms(m, source, false, rank);
  const TermCores absolute = DecodedTerms(m, source, true, rank);
  for (int64_t t = 0; t < rows; ++t) {
    std::vector<double> row(x.begin() + t * m.in_features, x.begin() + (t + 1) * m.in_features);
    const std::vector<double> y = MatrixOutput(m, source, exact, row, false);
    result.insert(result.end(), y.begin(), y.end());
    if (magnitude == nullptr) continue;
    for (double& v : row) v = std::abs(v);
    const std::vector<double> size = MatrixOutput(m, source, absolute, std::move(row), true);
    magnitude->insert(magnitude->end(), size.begin(), size.end());
  }
  return result;
}

}  // namespace rankine
