#include "runtime/factor/contraction.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace rankine {
namespace {

constexpr size_t kMaxCores = 6;

// A tensor of the network: legs as a bit mask over the term's leg names.
struct Node {
  uint32_t legs = 0;
  bool has_x = false;
  bool folded = false;
  int64_t bytes_per_element = 0;  // of the widest core folded in
  int64_t elements = 0;           // without the token leg
  std::string expression;
};

class Enumerator {
 public:
  Enumerator(const FactoredMatrix& matrix, const Term& term);
  std::vector<ContractionOrder> Run();

 private:
  uint32_t LegBit(const std::string& name, int64_t extent);
  int64_t Size(uint32_t legs) const;
  Node Contract(const std::vector<Node>& nodes, size_t a, size_t b, ContractionOrder* order) const;
  void Visit(const std::vector<Node>& nodes, const ContractionOrder& order);

  std::map<std::string, int> leg_index_;
  std::vector<int64_t> extents_;
  uint32_t output_legs_ = 0;
  std::vector<Node> leaves_;
  std::set<std::string> seen_;
  std::vector<ContractionOrder> orders_;
};

int64_t BytesPerElement(const Encoding& encoding) {
  return encoding.IsFloat() ? static_cast<int64_t>(SizeOf(encoding.dtype)) : 1;
}

Enumerator::Enumerator(const FactoredMatrix& matrix, const Term& term) {
  for (const OuterLeg& leg : matrix.output_legs) output_legs_ |= LegBit(leg.name, leg.extent);
  Node x{.has_x = true, .expression = "x"};
  for (const OuterLeg& leg : matrix.input_legs) x.legs |= LegBit(leg.name, leg.extent);
  x.elements = Size(x.legs);
  leaves_.push_back(std::move(x));
  // Cores are stored from the output side to the input side: x meets the last one first.
  for (auto core = term.cores.rbegin(); core != term.cores.rend(); ++core) {
    Node node{.bytes_per_element = BytesPerElement(core->encoding), .expression = core->name};
    for (const LegRange& leg : core->legs) node.legs |= LegBit(leg.name, leg.extent);
    node.elements = Size(node.legs);
    leaves_.push_back(std::move(node));
  }
}

uint32_t Enumerator::LegBit(const std::string& name, int64_t extent) {
  const auto [it, added] = leg_index_.try_emplace(name, static_cast<int>(extents_.size()));
  if (added) extents_.push_back(extent);
  return uint32_t{1} << it->second;
}

int64_t Enumerator::Size(uint32_t legs) const {
  int64_t size = 1;
  for (size_t i = 0; i < extents_.size(); ++i) {
    if (legs >> i & 1) size *= extents_[i];
  }
  return size;
}

// Contracts nodes a and b. A leg is summed when no other node and no output needs it, which covers
// legs shared by three cores.
Node Enumerator::Contract(const std::vector<Node>& nodes, size_t a, size_t b,
                          ContractionOrder* order) const {
  uint32_t needed = output_legs_;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (i != a && i != b) needed |= nodes[i].legs;
  }
  const uint32_t all = nodes[a].legs | nodes[b].legs;
  Node result{.legs = all & needed, .has_x = nodes[a].has_x || nodes[b].has_x};
  result.elements = Size(result.legs);
  result.bytes_per_element = std::max(nodes[a].bytes_per_element, nodes[b].bytes_per_element);
  const bool sums = result.legs != all;
  if (result.has_x) {
    const Node& core = nodes[a].has_x ? nodes[b] : nodes[a];
    const Node& x = nodes[a].has_x ? nodes[a] : nodes[b];
    order->steps.push_back({.core_elements = core.elements,
                            .core_bytes = core.elements * core.bytes_per_element,
                            .multiply_adds_per_token = Size(all),
                            .is_scale = !sums && (core.legs & ~x.legs) == 0});
    const std::string operand =
        core.folded ? absl::StrCat("[", core.expression, "]") : core.expression;
    const bool nested = x.expression != "x";
    result.expression =
        nested ? absl::StrCat("(", x.expression, ") ", operand) : absl::StrCat("x ", operand);
  } else {
    // The widest core that is not a mere vector decides the encoding of the result.
    const Node& larger = nodes[a].elements >= nodes[b].elements ? nodes[a] : nodes[b];
    result.bytes_per_element = larger.bytes_per_element;
    result.folded = true;
    result.expression =
        absl::StrCat(nodes[std::max(a, b)].expression, " ", nodes[std::min(a, b)].expression);
    ++order->num_foldings;
  }
  return result;
}

void Enumerator::Visit(const std::vector<Node>& nodes, const ContractionOrder& order) {
  if (nodes.size() == 1) {
    if (!seen_.insert(nodes[0].expression).second) return;
    orders_.push_back(order);
    orders_.back().expression = nodes[0].expression;
    orders_.back().is_dense = order.steps.size() == 1;
    return;
  }
  for (size_t a = 0; a < nodes.size(); ++a) {
    for (size_t b = a + 1; b < nodes.size(); ++b) {
      ContractionOrder next_order = order;
      const Node merged = Contract(nodes, a, b, &next_order);
      std::vector<Node> next = nodes;
      next[a] = merged;
      next.erase(next.begin() + static_cast<std::ptrdiff_t>(b));
      Visit(next, next_order);
    }
  }
}

std::vector<ContractionOrder> Enumerator::Run() {
  Visit(leaves_, {});
  return std::move(orders_);
}

}  // namespace

int64_t ContractionOrder::weight_bytes() const {
  int64_t total = 0;
  for (const ContractionStep& step : steps) total += step.core_bytes;
  return total;
}

int64_t ContractionOrder::multiply_adds_per_token() const {
  int64_t total = 0;
  for (const ContractionStep& step : steps) total += step.multiply_adds_per_token;
  return total;
}

int ContractionOrder::num_products() const {
  return static_cast<int>(std::count_if(steps.begin(), steps.end(),
                                        [](const ContractionStep& s) { return !s.is_scale; }));
}

absl::StatusOr<std::vector<ContractionOrder>> EnumerateOrders(const FactoredMatrix& matrix,
                                                              const Term& term) {
  if (term.cores.size() > kMaxCores) {
    return absl::UnimplementedError(absl::StrCat(matrix.name, ": a term of ", term.cores.size(),
                                                 " cores is not supported; at most ", kMaxCores));
  }
  RK_CHECK(!term.cores.empty());
  return Enumerator(matrix, term).Run();
}

}  // namespace rankine
