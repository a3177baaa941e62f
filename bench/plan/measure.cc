#include "bench/plan/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "bench/plan/random_source.h"
#include "kernels/api/quantized_rows.h"
#include "models/status_macros.h"
#include "runtime/factor/linear_group.h"
#include "tools/measure/statistics.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

// Weights of all copies of a candidate: far beyond the caches, but for the smallest matrices, whose
// copies are bounded.
constexpr int64_t kCopyBytes = int64_t{128} << 20;
constexpr int64_t kMaxCopies = 256;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Activations of a pass: the input in both forms, the output, the plan's workspace.
class Activations {
 public:
  static absl::StatusOr<Activations> Create(Device& device, const LinearGroup& group,
                                            int64_t tokens) {
    Activations a;
    const int64_t in = RoundUp(group.in_features(), kRecordColumns);
    const DType dtype = group.compute();
    RK_ASSIGN_OR_RETURN(Buffer floats, Buffer::Allocate(device, tokens * in * 4));
    RK_ASSIGN_OR_RETURN(
        a.dense_, Buffer::Allocate(device, tokens * in * static_cast<int64_t>(SizeOf(dtype))));
    RK_ASSIGN_OR_RETURN(a.quantized_, Buffer::Allocate(device, tokens * QuantizedRowBytes(in)));
    RK_ASSIGN_OR_RETURN(a.output_, Buffer::Allocate(device, tokens * group.output_columns() * 4));
    RK_ASSIGN_OR_RETURN(a.workspace_, Buffer::Allocate(device, group.workspace_bytes(tokens) + 1));
    const MatrixView x{.data = floats.data(),
                       .dtype = DType::kF32,
                       .rows = tokens,
                       .cols = group.in_features(),
                       .stride = in};
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t k = 0; k < x.cols; ++k) {
        x.Row<float>(t)[k] = std::sin(static_cast<float>(t * 31 + k * 7));
      }
    }
    a.FillInput(device, group, x);
    a.y_ = {.data = a.output_.data(),
            .dtype = DType::kF32,
            .rows = tokens,
            .cols = group.output_columns(),
            .stride = group.output_columns()};
    return a;
  }

  void Run(Device& device, const LinearGroup& group) const {
    group.Run(device, input_, y_, workspace_.data(), false);
  }

 private:
  void FillInput(Device& device, const LinearGroup& group, const MatrixView& x) {
    if (group.needs_dense()) {
      input_.dense = x;
      input_.dense.data = dense_.data();
      input_.dense.dtype = group.compute();
      device.ops().convert({.x = x, .out = input_.dense}, device.stream());
    }
    if (group.needs_quantized()) {
      input_.quantized = {.data = quantized_.data(),
                          .dtype = DType::kI8,
                          .rows = x.rows,
                          .cols = x.cols,
                          .stride = QuantizedRowBytes(x.cols)};
      device.ops().convert({.x = x, .out = input_.quantized}, device.stream());
    }
  }

  Buffer dense_, quantized_, output_, workspace_;
  GroupInput input_;
  MatrixView y_;
};

// One candidate: its copies, which take turns.
struct Subject {
  std::vector<LinearGroup> copies;
  size_t next = 0;

  // Seconds of one run, over as many as fill `least_seconds`.
  double Time(Device& device, const Activations& activations, double least_seconds) {
    const auto start = Clock::now();
    int64_t runs = 0;
    do {
      activations.Run(device, copies[next]);
      next = (next + 1) % copies.size();
      ++runs;
    } while (SecondsSince(start) < least_seconds);
    return SecondsSince(start) / static_cast<double>(runs);
  }
};

class MatrixBench {
 public:
  MatrixBench(Device& device, const Cell& cell, const MeasureOptions& options)
      : device_(device), cell_(cell), options_(options) {}

  absl::Status Load() {
    RK_ASSIGN_OR_RETURN(
        const RandomMatrix made,
        MakeRandomMatrix({"matrix", cell_.out, cell_.in, false}, cell_.form, /*seed=*/1));
    const RandomSource source(made);
    RK_RETURN_IF_ERROR(Add(made.matrix, source, {}));
    for (const std::vector<std::string>& orders : OtherOrders()) {
      RK_RETURN_IF_ERROR(Add(made.matrix, source, orders));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CellResult> Measure(const Cell& cell, const DeviceProfile& profile) {
    const LinearGroup& choice = subjects_[0].copies[0];
    CellResult result{.cell = &cell, .weight_bytes = choice.plan().weight_bytes()};
    std::vector<Activations> activations;
    for (Subject& subject : subjects_) {
      const LinearGroup& group = subject.copies[0];
      RK_ASSIGN_OR_RETURN(Activations a, Activations::Create(device_, group, cell.tokens));
      activations.push_back(std::move(a));
      result.candidates.push_back(
          {.expression = group.plan().expressions[0],
           .predicted_microseconds = group.plan().Predict(cell.tokens, profile).microseconds});
    }
    std::vector<std::vector<double>> seconds(subjects_.size());
    for (int round = -1; round < options_.rounds; ++round) {  // the first warms up
      for (size_t i = 0; i < subjects_.size(); ++i) {
        const double s = subjects_[i].Time(device_, activations[i], options_.round_seconds);
        if (round >= 0) seconds[i].push_back(s);
      }
    }
    for (size_t i = 0; i < subjects_.size(); ++i) {
      result.candidates[i].measured_microseconds = Median(seconds[i]) * 1e6;
    }
    return result;
  }

 private:
  absl::Status Add(const FactoredMatrix& matrix, const RandomSource& source,
                   const std::vector<std::string>& orders) {
    Subject subject;
    int64_t copies = 1;
    for (int64_t i = 0; i < copies; ++i) {
      RK_ASSIGN_OR_RETURN(LinearGroup group,
                          LinearGroup::Load(device_, {&matrix, 1}, {.orders = orders}, source));
      copies = std::clamp<int64_t>(kCopyBytes / std::max<int64_t>(group.weight_bytes(), 1), 1,
                                   kMaxCopies);
      subject.copies.push_back(std::move(group));
    }
    subjects_.push_back(std::move(subject));
    return absl::OkStatus();
  }

  // The orders of all terms with one term's replaced by another that may be chosen, best first.
  std::vector<std::vector<std::string>> OtherOrders() const {
    const std::vector<TermChoice>& terms = subjects_[0].copies[0].choices()[0].terms;
    std::vector<std::string> chosen;
    for (const TermChoice& term : terms) chosen.push_back(term.choice().order.expression);
    std::vector<std::pair<double, std::vector<std::string>>> others;
    for (size_t t = 0; t < terms.size(); ++t) {
      for (const Candidate& c : terms[t].candidates) {
        if (!c.rejected.empty() || &c == &terms[t].choice()) continue;
        std::vector<std::string> orders = chosen;
        orders[t] = c.order.expression;
        others.emplace_back(c.decode_microseconds - terms[t].choice().decode_microseconds, orders);
      }
    }
    std::sort(others.begin(), others.end());
    std::vector<std::vector<std::string>> result;
    for (const auto& [seconds, orders] : others) {
      if (static_cast<int>(result.size()) + 1 >= options_.max_candidates) break;
      result.push_back(orders);
    }
    return result;
  }

  Device& device_;
  const Cell& cell_;
  const MeasureOptions& options_;
  std::vector<Subject> subjects_;  // the planner's choice first
};

}  // namespace

double CellResult::error() const {
  return std::abs(choice().predicted_microseconds - choice().measured_microseconds) /
         choice().measured_microseconds;
}

double CellResult::ratio_to_best() const {
  double best = choice().measured_microseconds;
  for (const CandidateTime& c : candidates) best = std::min(best, c.measured_microseconds);
  return choice().measured_microseconds / best;
}

absl::StatusOr<std::vector<CellResult>> MeasureMatrix(Device& device,
                                                      const std::vector<const Cell*>& cells,
                                                      const DeviceProfile& profile,
                                                      const MeasureOptions& options) {
  MatrixBench bench(device, *cells[0], options);
  RK_RETURN_IF_ERROR(bench.Load());
  std::vector<CellResult> results;
  for (const Cell* cell : cells) {
    RK_ASSIGN_OR_RETURN(CellResult result, bench.Measure(*cell, profile));
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace rankine
