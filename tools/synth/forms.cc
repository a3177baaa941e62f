#include "tools/synth/forms.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/methods/budget.h"

namespace rankine {
namespace {

constexpr int kMinSites = 2, kMaxSites = 4;
// Of Q + L R: how large the correction is beside Q.
constexpr double kCorrection = 0.1;

LegRange Leg(const std::string& name, int64_t extent) { return {name, 0, extent}; }

struct CorePlan {
  std::string name;
  std::vector<LegRange> legs;
};

class MatrixMaker {
 public:
  MatrixMaker(const LinearSpec& linear, const FormOptions& options, uint64_t seed)
      : linear_(linear), options_(options), seed_(seed), o_(linear.out), i_(linear.in) {
    FactoredMatrix& m = out_.matrix;
    m.name = linear.name;
    m.out_features = o_;
    m.in_features = i_;
    m.output_legs = {{"o", o_}};
    m.input_legs = {{"i", i_}};
    if (linear.has_bias) m.bias_tensor = linear.bias();
    m.provenance = {.method = "random", .keep = options.keep};
  }

  absl::StatusOr<RandomMatrix> Make() && {
    RK_RETURN_IF_ERROR(AddTerms());
    if (linear_.has_bias) {
      out_.tensors.push_back({.spec = {linear_.bias(), DType::kF32, {o_}},
                              .amplitude = 0.01f,
                              .key = RandomKey(seed_, linear_.bias())});
    }
    return std::move(out_);
  }

 private:
  absl::Status AddTerms() {
    switch (options_.form) {
      case SynthForm::kDense:
        return AddTerm({{"W", {Leg("o", o_), Leg("i", i_)}}}, options_.encoding);
      case SynthForm::kSvd:
        return AddSvd();
      case SynthForm::kTucker:
        return AddTucker();
      case SynthForm::kMpo:
        return AddMpo();
      case SynthForm::kQlr:
        return AddQlr();
    }
    return absl::InternalError("unknown form");
  }

  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(linear_.name, " [", o_, ", ", i_, "]: ", what));
  }

  absl::Status CheckRank(int64_t rank) const {
    if (rank <= std::min(o_, i_)) return absl::OkStatus();
    return Error(absl::StrCat("rank ", rank, " is above ", std::min(o_, i_),
                              ", its smaller side; lower --rank"));
  }

  absl::Status AddSvd() {
    const int64_t r = options_.rank != 0 ? options_.rank : RankFromKeep(options_.keep, o_, i_);
    if (r == 0) return Error("no rank keeps fewer parameters; use --rank");
    RK_RETURN_IF_ERROR(CheckRank(r));
    out_.matrix.sorted_leg = "r";
    return AddTerm({{"U", {Leg("o", o_), Leg("r", r)}},
                    {"S", {Leg("r", r)}},
                    {"V", {Leg("r", r), Leg("i", i_)}}},
                   options_.factor_encoding);
  }

  absl::Status AddTucker() {
    int64_t r = options_.rank;
    if (r == 0) {
      // r^2 + (o + i) r = keep o i
      const double sides = static_cast<double>(o_ + i_);
      const double budget = options_.keep * static_cast<double>(o_) * static_cast<double>(i_);
      r = static_cast<int64_t>((std::sqrt(sides * sides + 4 * budget) - sides) / 2);
      r = std::clamp<int64_t>(r, 1, std::min(o_, i_));
    }
    RK_RETURN_IF_ERROR(CheckRank(r));
    return AddTerm({{"A", {Leg("o", o_), Leg("a", r)}},
                    {"G", {Leg("a", r), Leg("b", r)}},
                    {"B", {Leg("b", r), Leg("i", i_)}}},
                   options_.factor_encoding);
  }

  absl::Status AddQlr() {
    RK_RETURN_IF_ERROR(CheckRank(options_.rank));
    RK_RETURN_IF_ERROR(AddTerm({{"Q", {Leg("o", o_), Leg("i", i_)}}}, options_.encoding));
    const int64_t r = options_.rank;
    return AddTerm({{"L", {Leg("o", o_), Leg("r", r)}}, {"R", {Leg("r", r), Leg("i", i_)}}},
                   options_.factor_encoding, kCorrection);
  }

  absl::Status AddMpo();
  std::vector<CorePlan> MpoCores(const std::vector<int64_t>& out, const std::vector<int64_t>& in,
                                 int64_t bond) const;
  absl::Status CheckBond(const std::vector<CorePlan>& cores) const;

  // A sum over the bonds of products of one number of each core has `gain`^2 / in as its variance
  // when each core's variance is one over the extents of its input legs and of the bonds that no
  // core before it has. The S of U S V stays near 1.
  absl::Status AddTerm(const std::vector<CorePlan>& plans, const Encoding& encoding,
                       double gain = 1) {
    std::map<std::string, bool> seen;
    for (const OuterLeg& leg : out_.matrix.output_legs) seen[leg.name] = true;
    Term term;
    for (const CorePlan& plan : plans) {
      double summed = 1;
      for (const LegRange& leg : plan.legs) {
        if (!seen[leg.name]) summed *= static_cast<double>(leg.extent);
        seen[leg.name] = true;
      }
      RK_RETURN_IF_ERROR(AddCore(plan, encoding, gain / std::sqrt(summed), &term));
      gain = 1;
    }
    out_.matrix.terms.push_back(std::move(term));
    return absl::OkStatus();
  }

  absl::Status AddCore(const CorePlan& plan, const Encoding& encoding, double stddev, Term* term) {
    const bool is_scale = plan.legs.size() == 1;
    RK_ASSIGN_OR_RETURN(
        RandomCore core,
        MakeRandomCore({.matrix = linear_.name,
                        .name = plan.name,
                        .legs = plan.legs,
                        .encoding = is_scale ? Encoding::Float(DType::kF32) : encoding,
                        .stddev = static_cast<float>(stddev),
                        .seed = seed_}));
    if (is_scale) {
      core.tensors[0].fill = RandomTensor::Fill::kFalling;
      core.tensors[0].amplitude = 1;
    }
    term->cores.push_back(std::move(core.core));
    std::move(core.tensors.begin(), core.tensors.end(), std::back_inserter(out_.tensors));
    return absl::OkStatus();
  }

  const LinearSpec& linear_;
  const FormOptions& options_;
  uint64_t seed_;
  int64_t o_, i_;
  RandomMatrix out_;
};

// C1[o1,i1,x1] C2[x1,o2,i2,x2] .. CK[x(K-1),oK,iK]
std::vector<CorePlan> MatrixMaker::MpoCores(const std::vector<int64_t>& out,
                                            const std::vector<int64_t>& in, int64_t bond) const {
  std::vector<CorePlan> cores;
  for (size_t k = 1; k <= out.size(); ++k) {
    CorePlan core{.name = absl::StrCat("C", k)};
    if (k > 1) core.legs.push_back(Leg(absl::StrCat("x", k - 1), bond));
    core.legs.push_back(Leg(absl::StrCat("o", k), out[k - 1]));
    core.legs.push_back(Leg(absl::StrCat("i", k), in[k - 1]));
    if (k < out.size()) core.legs.push_back(Leg(absl::StrCat("x", k), bond));
    cores.push_back(std::move(core));
  }
  return cores;
}

// A bond above what the outer legs on either side of it hold is of no use.
absl::Status MatrixMaker::CheckBond(const std::vector<CorePlan>& cores) const {
  const auto outer = [](const CorePlan& core) {
    int64_t size = 1;
    for (const LegRange& leg : core.legs) size *= leg.name[0] == 'x' ? 1 : leg.extent;
    return size;
  };
  const int64_t most = std::min(outer(cores.front()), outer(cores.back()));
  const int64_t bond = cores.front().legs.back().extent;
  if (bond <= most) return absl::OkStatus();
  return Error(absl::StrCat("bond ", bond, " is above ", most,
                            ", what its outermost cores allow; lower --bond"));
}

int64_t CountOf(const std::vector<CorePlan>& cores) {
  int64_t total = 0;
  for (const CorePlan& core : cores) {
    int64_t size = 1;
    for (const LegRange& leg : core.legs) size *= leg.extent;
    total += size;
  }
  return total;
}

absl::Status MatrixMaker::AddMpo() {
  const int sites = options_.sites == 0 ? kMinSites : options_.sites;
  const std::vector<int64_t> out = EvenFactors(o_, sites), in = EvenFactors(i_, sites);
  if (out.empty() || in.empty()) {
    return Error(absl::StrCat(out.empty() ? o_ : i_, " has no ", sites, " factors; lower --sites"));
  }
  FactoredMatrix& m = out_.matrix;
  m.output_legs.clear();
  m.input_legs.clear();
  for (int k = 0; k < sites; ++k) {
    m.output_legs.push_back({absl::StrCat("o", k + 1), out[k]});
    m.input_legs.push_back({absl::StrCat("i", k + 1), in[k]});
  }
  int64_t bond = options_.bond;
  if (bond == 0) {
    // The largest within the budget; both the bond and the budget are monotonic.
    const double budget = options_.keep * static_cast<double>(o_) * static_cast<double>(i_);
    const int64_t most = std::min(out.front() * in.front(), out.back() * in.back());
    for (bond = 1; bond < most; ++bond) {
      if (static_cast<double>(CountOf(MpoCores(out, in, bond + 1))) > budget) break;
    }
  }
  const std::vector<CorePlan> cores = MpoCores(out, in, bond);
  RK_RETURN_IF_ERROR(CheckBond(cores));
  return AddTerm(cores, options_.factor_encoding);
}

absl::Status BadFlag(const std::string& what) { return absl::InvalidArgumentError(what); }

// "--rank" for flags that a form does not take.
absl::Status RefuseFlag(bool given, const char* flag, const char* form) {
  if (!given) return absl::OkStatus();
  return BadFlag(absl::StrCat(flag, " does not go with --form ", form));
}

absl::Status CheckOneOf(const FormOptions& o, const char* form, bool other, const char* flag) {
  if ((o.keep != 0) == other) {
    return BadFlag(absl::StrCat("--form ", form, " needs either --keep or ", flag));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckFormOptions(const FormOptions& o) {
  static constexpr const char* kNames[] = {"dense", "svd", "tucker", "mpo", "qlr"};
  const char* form = kNames[static_cast<int>(o.form)];
  const bool is_mpo = o.form == SynthForm::kMpo;
  if (!(o.keep >= 0 && o.keep < 1)) return BadFlag("--keep must be above 0 and below 1");
  if (o.rank < 0) return BadFlag("--rank must be at least 1");
  if (o.bond < 0) return BadFlag("--bond must be at least 1");
  RK_RETURN_IF_ERROR(RefuseFlag(o.bond != 0 && !is_mpo, "--bond", form));
  RK_RETURN_IF_ERROR(RefuseFlag(o.sites != 0 && !is_mpo, "--sites", form));
  RK_RETURN_IF_ERROR(
      RefuseFlag(o.rank != 0 && (is_mpo || o.form == SynthForm::kDense), "--rank", form));
  switch (o.form) {
    case SynthForm::kDense:
      return RefuseFlag(o.keep != 0, "--keep", form);
    case SynthForm::kSvd:
    case SynthForm::kTucker:
      return CheckOneOf(o, form, o.rank != 0, "--rank");
    case SynthForm::kMpo:
      if (o.sites != 0 && (o.sites < kMinSites || o.sites > kMaxSites)) {
        return BadFlag(absl::StrCat("--sites must be ", kMinSites, " to ", kMaxSites));
      }
      return CheckOneOf(o, form, o.bond != 0, "--bond");
    case SynthForm::kQlr:
      RK_RETURN_IF_ERROR(RefuseFlag(o.keep != 0, "--keep", form));
      return o.rank != 0 ? absl::OkStatus() : BadFlag("--form qlr needs --rank");
  }
  return absl::OkStatus();
}

absl::StatusOr<RandomMatrix> MakeRandomMatrix(const LinearSpec& linear, const FormOptions& options,
                                              uint64_t seed) {
  return MatrixMaker(linear, options, seed).Make();
}

std::vector<int64_t> EvenFactors(int64_t value, int count) {
  std::vector<int64_t> best, current;
  int64_t best_sum = 0;
  const std::function<void(int64_t, int, int64_t)> visit = [&](int64_t rest, int left,
                                                               int64_t most) {
    if (left == 1) {
      if (rest > most || rest < 2) return;
      const int64_t sum = std::accumulate(current.begin(), current.end(), rest);
      if (!best.empty() && sum >= best_sum) return;
      best_sum = sum;
      best = current;
      best.push_back(rest);
      return;
    }
    for (int64_t f = 2; f <= std::min(rest / 2, most); ++f) {
      if (rest % f != 0) continue;
      current.push_back(f);
      visit(rest / f, left - 1, f);
      current.pop_back();
    }
  };
  visit(value, count, value);
  return best;
}

}  // namespace rankine
