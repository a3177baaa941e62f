#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"
#include "models/checkpoint/validate.h"
#include "models/files/quoted.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Far above any model's; products of two stay within int64.
constexpr int64_t kMaxExtent = int64_t{1} << 31;

// Checks one term of a matrix.
class TermChecker {
 public:
  TermChecker(const FactoredMatrix& matrix, size_t index)
      : matrix_(matrix), term_(matrix.terms[index]), index_(index) {
    for (const OuterLeg& leg : matrix.output_legs) outer_[leg.name] = leg.extent;
    for (const OuterLeg& leg : matrix.input_legs) outer_[leg.name] = leg.extent;
  }

  absl::Status Check() {
    if (term_.cores.empty()) return Error("has no cores");
    std::set<std::string> names;
    for (const Core& core : term_.cores) {
      if (core.name.empty()) return Error("has a core without a name");
      if (!names.insert(core.name).second) {
        return Error(absl::StrCat("has two cores named ", Quoted(core.name)));
      }
      RK_RETURN_IF_ERROR(CheckLegs(core));
    }
    RK_RETURN_IF_ERROR(CheckOuterLegs());
    for (const Core& core : term_.cores) RK_RETURN_IF_ERROR(CheckIdentity(core));
    return CheckBonds();
  }

 private:
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("matrix ", absl::CHexEscape(matrix_.name), ": term ", index_, " ", what));
  }
  absl::Status Error(const Core& core, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("matrix ", absl::CHexEscape(matrix_.name),
                                                   ": core ", Quoted(core.name), " of term ",
                                                   index_, ": ", what));
  }

  absl::Status CheckRange(const Core& core, const LegRange& leg) const {
    if (leg.extent == 0 && !outer_.contains(leg.name)) {
      return Error(core, absl::StrCat("leg ", Quoted(leg.name), " has rank 0"));
    }
    if (leg.extent < 1 || leg.extent > kMaxExtent) {
      return Error(core, absl::StrCat("leg ", Quoted(leg.name), " has extent ", leg.extent));
    }
    if (leg.offset < 0 || leg.stored_extent < 0 || leg.stored_extent > kMaxExtent) {
      return Error(core, absl::StrCat("leg ", Quoted(leg.name), " has a negative or huge range"));
    }
    if (leg.offset != 0 && leg.stored_extent == 0) {
      return Error(core, absl::StrCat("leg ", Quoted(leg.name), " has offset ", leg.offset,
                                      " but no stored_extent"));
    }
    // offset may be anything up to INT64_MAX here.
    if (leg.stored_extent != 0 &&
        (leg.offset > leg.stored_extent || leg.extent > leg.stored_extent - leg.offset)) {
      return Error(core, absl::StrCat("leg ", Quoted(leg.name), ": the range from ", leg.offset,
                                      " with extent ", leg.extent, " is not inside the stored ",
                                      leg.stored_extent));
    }
    return absl::OkStatus();
  }

  absl::Status CheckLegs(const Core& core) {
    if (core.legs.empty()) return Error(core, "has no legs");
    std::set<std::string> names;
    for (const LegRange& leg : core.legs) {
      if (leg.name.empty()) return Error(core, "has a leg without a name");
      if (!names.insert(leg.name).second) {
        return Error(core, absl::StrCat("has the leg ", Quoted(leg.name), " twice"));
      }
      RK_RETURN_IF_ERROR(CheckRange(core, leg));
      const auto [first, is_new] = extents_.emplace(leg.name, leg.extent);
      if (!is_new && first->second != leg.extent) {
        return Error(core,
                     absl::StrCat("leg ", Quoted(leg.name), " has extent ", leg.extent, ", but ",
                                  first->second, " on core ", Quoted(users_[leg.name][0]->name)));
      }
      const auto outer = outer_.find(leg.name);
      if (outer != outer_.end() && outer->second != leg.extent) {
        return Error(core, absl::StrCat("leg ", Quoted(leg.name), " has extent ", leg.extent,
                                        ", but the matrix has ", outer->second));
      }
      users_[leg.name].push_back(&core);
    }
    return absl::OkStatus();
  }

  absl::Status CheckOuterLegs() {
    for (const auto& [name, extent] : outer_) {
      const auto& users = users_[name];
      if (users.empty()) {
        return Error(absl::StrCat("has no core with the outer leg ", Quoted(name)));
      }
      if (users.size() > 1) {
        return Error(*users[1], absl::StrCat("the outer leg ", Quoted(name), " is on core ",
                                             Quoted(users[0]->name), " already"));
      }
    }
    return absl::OkStatus();
  }

  // [I; tensor]: the first leg is an output leg and longer than the second, a bond.
  absl::Status CheckIdentity(const Core& core) const {
    if (!core.leading_identity) return absl::OkStatus();
    if (core.legs.size() != 2) {
      return Error(core, absl::StrCat("a leading identity needs two legs, not ", core.legs.size()));
    }
    const LegRange &rows = core.legs[0], &bond = core.legs[1];
    for (const LegRange& leg : core.legs) {
      if (leg.offset == 0 && leg.stored_extent == 0) continue;
      return Error(core, absl::StrCat("leg ", Quoted(leg.name),
                                      ": a core with a leading identity takes no range"));
    }
    const bool output = std::any_of(matrix_.output_legs.begin(), matrix_.output_legs.end(),
                                    [&](const OuterLeg& leg) { return leg.name == rows.name; });
    if (!output || outer_.contains(bond.name)) {
      return Error(core, absl::StrCat("a leading identity maps a bond to an output leg, not ",
                                      Quoted(bond.name), " to ", Quoted(rows.name)));
    }
    if (rows.extent <= bond.extent) {
      return Error(core, absl::StrCat("leg ", Quoted(rows.name), " has extent ", rows.extent,
                                      ", which leaves no row after an identity of ", bond.extent));
    }
    return absl::OkStatus();
  }

  absl::Status CheckBonds() const {
    for (const auto& [name, users] : users_) {
      if (outer_.contains(name)) continue;
      if (users.size() == 1) {
        return Error(*users[0],
                     absl::StrCat("leg ", Quoted(name),
                                  " dangles: no other core has it, and it is no outer leg"));
      }
      RK_RETURN_IF_ERROR(CheckRank(name, users));
    }
    return absl::OkStatus();
  }

  // A bond between two cores is a matrix product, whose rank the other legs of either side bound:
  // U[o,r] V[r,i] needs r <= min(o, i). A core with the bond alone (the S of U S V) bounds nothing,
  // nor does a bond of three larger cores (CP), nor a side without an outer leg (the G of Tucker).
  // Of a core that matrices share by ranges, the whole counts: k may take 3 of the rows of an A
  // whose rank suits those of q and v beside them.
  absl::Status CheckRank(const std::string& name, const std::vector<const Core*>& users) const {
    std::vector<const Core*> sides;
    std::copy_if(users.begin(), users.end(), std::back_inserter(sides),
                 [](const Core* core) { return core->legs.size() > 1; });
    if (sides.size() != 2) return absl::OkStatus();
    const int64_t rank = extents_.at(name);
    for (const Core* core : sides) {
      int64_t others = 1;
      bool has_outer = false;
      for (const LegRange& leg : core->legs) {
        if (leg.name == name) continue;
        has_outer |= outer_.contains(leg.name);
        const int64_t stored = std::max(leg.extent, leg.stored_extent);
        if (!CheckedMul(others, stored, &others)) others = INT64_MAX;
      }
      if (has_outer && rank > others) {
        return Error(*core, absl::StrCat("leg ", Quoted(name), " has rank ", rank, ", above the ",
                                         others, " that its other legs allow"));
      }
    }
    return absl::OkStatus();
  }

  const FactoredMatrix& matrix_;
  const Term& term_;
  size_t index_;
  std::map<std::string, int64_t> outer_;
  std::map<std::string, int64_t> extents_;
  std::map<std::string, std::vector<const Core*>> users_;
};

absl::Status MatrixError(const FactoredMatrix& matrix, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("matrix ", absl::CHexEscape(matrix.name), ": ", what));
}

absl::Status CheckFeatures(const FactoredMatrix& matrix, const std::vector<OuterLeg>& legs,
                           int64_t features, const char* side, std::set<std::string>* names) {
  if (features < 1 || features > kMaxExtent) {
    return MatrixError(matrix, absl::StrCat(side, "_features is ", features));
  }
  if (legs.empty()) return MatrixError(matrix, absl::StrCat("has no ", side, "put legs"));
  int64_t product = 1;
  for (const OuterLeg& leg : legs) {
    if (leg.name.empty() || !names->insert(leg.name).second) {
      return MatrixError(matrix, absl::StrCat("has two outer legs named ", Quoted(leg.name),
                                              ", or one without a name"));
    }
    if (leg.extent < 1 || !CheckedMul(product, leg.extent, &product)) {
      return MatrixError(matrix,
                         absl::StrCat("outer leg ", Quoted(leg.name), " has extent ", leg.extent));
    }
  }
  if (product != features) {
    return MatrixError(matrix, absl::StrCat("its ", side, "put legs multiply to ", product,
                                            ", but ", side, "_features is ", features));
  }
  return absl::OkStatus();
}

absl::Status CheckSortedLeg(const FactoredMatrix& matrix, const std::set<std::string>& outer) {
  if (matrix.sorted_leg.empty()) return absl::OkStatus();
  if (outer.contains(matrix.sorted_leg)) {
    return MatrixError(matrix, absl::StrCat("the sorted leg ", Quoted(matrix.sorted_leg),
                                            " is an outer leg; only bonds can be cut"));
  }
  for (const Term& term : matrix.terms) {
    for (const Core& core : term.cores) {
      for (const LegRange& leg : core.legs) {
        if (leg.name == matrix.sorted_leg) return absl::OkStatus();
      }
    }
  }
  return MatrixError(matrix,
                     absl::StrCat("no core has the sorted leg ", Quoted(matrix.sorted_leg)));
}

absl::Status CheckProvenance(const FactoredMatrix& matrix) {
  const Provenance& p = matrix.provenance;
  if (!std::isfinite(p.keep) || p.keep < 0) {
    return MatrixError(matrix, absl::StrCat("provenance: keep is ", p.keep));
  }
  if (p.calibration_tokens < 0) {
    return MatrixError(matrix, "provenance: calibration_tokens is negative");
  }
  if (!std::isfinite(p.relative_error) || !std::isfinite(p.weighted_error) ||
      !std::isfinite(p.pivot_error)) {
    return MatrixError(matrix, "provenance: an error figure is not finite");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateNetwork(const FactoredMatrix& matrix) {
  std::set<std::string> outer;
  RK_RETURN_IF_ERROR(CheckFeatures(matrix, matrix.output_legs, matrix.out_features, "out", &outer));
  RK_RETURN_IF_ERROR(CheckFeatures(matrix, matrix.input_legs, matrix.in_features, "in", &outer));
  if (matrix.terms.empty()) return MatrixError(matrix, "has no terms");
  for (size_t k = 0; k < matrix.terms.size(); ++k) {
    RK_RETURN_IF_ERROR(TermChecker(matrix, k).Check());
  }
  RK_RETURN_IF_ERROR(CheckSortedLeg(matrix, outer));
  return CheckProvenance(matrix);
}

}  // namespace rankine
