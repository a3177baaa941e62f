#include "tools/compress/pivoted_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/thread_pool.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint_source.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "models/status_macros.h"
#include "runtime/factor/core_reader.h"
#include "runtime/factor/host_tensor.h"

namespace rankine {
namespace {

constexpr double kRoundings = 16;
constexpr double kMaxBlockError = 0.1;

// U [o, r], any number of scales over r, V [r, i], stored in any order of legs.
struct Factors {
  std::string rank_leg;
  std::vector<int> left;  // cores of U S
  int right = -1;
};

bool HasLeg(const Core& core, const std::string& name) {
  return std::any_of(core.legs.begin(), core.legs.end(),
                     [&](const LegRange& leg) { return leg.name == name; });
}

// Why a matrix has no pivoted form; empty = it has, by *factors.
std::string WhyNot(const FactoredMatrix& m, Factors* factors) {
  if (m.terms.size() != 1) return "it is a sum of terms";
  const std::vector<Core>& cores = m.terms[0].cores;
  if (m.output_legs.size() != 1 || m.input_legs.size() != 1) return "it is not of the form U V";
  int left = -1;
  std::vector<int> scales;
  for (size_t i = 0; i < cores.size(); ++i) {
    if (cores[i].leading_identity) return "it is pivoted already";
    for (const LegRange& leg : cores[i].legs) {
      if (leg.offset != 0 || leg.stored_extent > leg.extent)
        return "it shares core " + cores[i].name + " with other matrices";
    }
    const bool output = HasLeg(cores[i], m.output_legs[0].name);
    const bool input = HasLeg(cores[i], m.input_legs[0].name);
    const int index = static_cast<int>(i);
    if (cores[i].legs.size() == 1 && !output && !input) {
      scales.push_back(index);
    } else if (cores[i].legs.size() != 2 || output == input) {
      return "it is not of the form U V";
    } else {
      (output ? left : factors->right) = index;
    }
  }
  if (left < 0 || factors->right < 0) return "it is not of the form U V";
  const std::vector<LegRange>& legs = cores[left].legs;
  factors->rank_leg = legs[legs[0].name == m.output_legs[0].name ? 1 : 0].name;
  factors->left = {left};
  for (const int scale : scales) {
    if (cores[scale].legs[0].name != factors->rank_leg) return "it is not of the form U V";
    factors->left.push_back(scale);
  }
  return HasLeg(cores[factors->right], factors->rank_leg) ? "" : "it is not of the form U V";
}

absl::StatusOr<Matrix64> Folded(const FactoredMatrix& m, const std::vector<int>& cores,
                                const std::string& row_leg, const std::string& column_leg,
                                const TensorSource& source) {
  const TermLegs legs = LegsOf(m, m.terms[0]);
  const auto number = [&](const std::string& name) {
    return static_cast<int>(std::find(legs.names.begin(), legs.names.end(), name) -
                            legs.names.begin());
  };
  std::vector<HostTensor> tensors;
  for (const int core : cores) {
    RK_ASSIGN_OR_RETURN(HostTensor tensor, ReadWholeCore(legs, m.terms[0].cores[core], source));
    tensors.push_back(std::move(tensor));
  }
  const int row = number(row_leg), column = number(column_leg);
  Matrix64 result(legs.extents[row], legs.extents[column]);
  FoldTensors(legs, std::move(tensors), {row}, {column}).Rows(0, result.rows, result.values.data());
  return result;
}

absl::StatusOr<RankProduct> ReadProduct(const FactoredMatrix& m, const Checkpoint& checkpoint) {
  Factors f;
  WhyNot(m, &f);
  const CheckpointSource source(checkpoint);
  RankProduct result;
  RK_ASSIGN_OR_RETURN(result.a, Folded(m, f.left, m.output_legs[0].name, f.rank_leg, source));
  RK_ASSIGN_OR_RETURN(result.v, Folded(m, {f.right}, f.rank_leg, m.input_legs[0].name, source));
  return result;
}

// As it will be when it has been stored and read.
absl::Status Round(const Encoding& encoding, Matrix64* matrix) {
  std::vector<float> values(matrix->values.begin(), matrix->values.end());
  if (encoding.IsFloat()) {
    std::vector<char> stored(values.size() * SizeOf(encoding.dtype));
    const auto count = static_cast<int64_t>(values.size());
    if (ConvertFloats(DType::kF32, values.data(), encoding.dtype, stored.data(), count) >= 0)
      return absl::FailedPreconditionError(
          absl::StrCat("a value does not fit in ", Name(encoding.dtype).data()));
    for (int64_t i = 0; i < count; ++i)
      matrix->values[i] = FloatAt(encoding.dtype, stored.data(), i);
    return absl::OkStatus();
  }
  BlockRowsBuffer blocks;
  RK_RETURN_IF_ERROR(CheckCanEncode(encoding, matrix->cols));
  RK_RETURN_IF_ERROR(EncodeRows(values.data(), matrix->rows, matrix->cols, encoding, &blocks));
  std::vector<float> row(static_cast<size_t>(matrix->cols));
  for (int64_t r = 0; r < matrix->rows; ++r) {
    DecodeBlockRow(blocks.view(), r, row.data());
    std::copy(row.begin(), row.end(), matrix->Row(r));
  }
  return absl::OkStatus();
}

double MaxError(const Encoding& stored, const PivotOptions& options) {
  if (options.max_error) return *options.max_error;
  if (!stored.IsFloat()) return kMaxBlockError;
  const int bits = stored.dtype == DType::kF32 ? 24 : stored.dtype == DType::kF16 ? 11 : 8;
  return kRoundings * std::ldexp(1.0, -bits - 1);
}

// How ConvertModel will store the cores of a linear.
absl::StatusOr<Encoding> StoredEncoding(const FactoredMatrix& m, const ConvertOptions& convert) {
  const int rule = FirstRule(convert.map, m.name);
  const EncodingTarget* target = rule >= 0        ? &convert.map[rule].target
                                 : convert.encode ? &*convert.encode
                                                  : nullptr;
  if (target != nullptr && !target->keep) return target->encoding;
  for (const Core& core : m.terms[0].cores) {
    if (core.encoding.IsFloat()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("matrix ", m.name, ": core ", core.name, " is ", EncodingName(core.encoding),
                     ", and pivoting makes new cores; say with --encode how to store them"));
  }
  return Encoding::Float(convert.dtype);
}

}  // namespace

absl::Status PivotedCheckpoint::Try(const FactoredMatrix& matrix, const PivotOptions& options,
                                    Entry* entry, PivotReport* report) const {
  entry->original = &matrix;
  RK_ASSIGN_OR_RETURN(const RankProduct product, ReadProduct(matrix, source_));
  auto pivots = ChoosePivots(product);
  if (absl::IsFailedPrecondition(pivots.status())) {
    report->kept = std::string(pivots.status().message());
    return absl::OkStatus();
  }
  RK_RETURN_IF_ERROR(pivots.status());
  const auto round = [&](Matrix64* m) { return Round(entry->stored, m); };
  auto pivoted = PivotAt(product, *std::move(pivots), round);
  const absl::Status fits = pivoted.ok() ? round(&pivoted->c) : pivoted.status();
  if (!fits.ok()) {
    report->kept = std::string(fits.message());
    return absl::OkStatus();
  }
  const auto rank = static_cast<int64_t>(pivoted->pivots.size());
  report->rank = rank;
  report->parameters = rank * (matrix.out_features + matrix.in_features - rank);
  report->error = PivotError(product, *pivoted);
  const double limit = MaxError(entry->stored, options);
  if (!(report->error <= limit)) {
    report->kept = absl::StrCat("its pivots are ill-conditioned in ", EncodingName(entry->stored),
                                ": the error would be ", report->error, ", above ", limit);
  } else if (report->parameters >= report->parameters_before) {
    report->kept = "its pivoted form holds no fewer numbers";
  }
  entry->positions = pivoted->RowPositions();
  entry->pivots = std::move(pivoted->pivots);
  return absl::OkStatus();
}

void PivotedCheckpoint::Replace(const Entry& entry, const PivotReport& report,
                                FactoredMatrix* matrix) {
  FactoredMatrix& m = *matrix;
  const auto rank = static_cast<int64_t>(entry.pivots.size());
  const auto add = [&](const char* suffix, Part part, std::vector<int64_t> shape) {
    TensorInfo info{.name = m.name + suffix, .stored_type = "F32", .shape = std::move(shape)};
    info.stored_bytes = 4;
    for (const int64_t extent : info.shape) info.stored_bytes *= extent;
    if (part == Part::kRows) {
      info.stored_type = "I32";
      info.natural_dtype = DType::kI32;
    }
    owned_[info.name] = {&entry, part};
    tensors_.push_back(std::move(info));
    return tensors_.back().name;
  };
  const LegRange o{m.output_legs[0].name, 0, m.out_features};
  const LegRange i{m.input_legs[0].name, 0, m.in_features}, r{"r", 0, rank};
  const Encoding f32 = Encoding::Float(DType::kF32);
  Core c{.name = "C", .legs = {o, r}, .encoding = f32, .leading_identity = true};
  c.tensors = {{"values", add(".C", Part::kC, {m.out_features - rank, rank})}};
  Core p{.name = "P", .legs = {r, i}, .encoding = f32};
  p.tensors = {{"values", add(".P", Part::kP, {rank, m.in_features})}};
  m.terms = {Term{{std::move(c), std::move(p)}}};
  const Transform rows{.tensor = add(".rows", Part::kRows, {m.out_features})};
  m.output_transforms.insert(m.output_transforms.begin(), rows);
  m.sorted_leg.clear();
  m.provenance.pivot_error = report.error;
}

absl::Status PivotedCheckpoint::Pivot(const ConvertOptions& convert, const PivotOptions& options,
                                      const PivotProgress& progress) {
  factored_ = source_.factored();
  std::vector<size_t> todo;
  for (size_t i = 0; i < factored_.size(); ++i) {
    const FactoredMatrix& m = source_.factored()[i];
    entries_.push_back(std::make_unique<Entry>());
    Factors factors;
    report_.push_back({.linear = m.name, .parameters_before = m.NumParameters()});
    report_.back().kept = WhyNot(m, &factors);
    if (!report_.back().kept.empty()) continue;
    RK_ASSIGN_OR_RETURN(entries_.back()->stored, StoredEncoding(m, convert));
    // S can be folded into a factor, and a bias stays.
    const int64_t rank = m.terms[0].cores[factors.right].NumParameters() / m.in_features;
    report_.back().parameters_before = rank * (m.out_features + m.in_features);
    todo.push_back(i);
  }
  if (todo.empty()) {
    return absl::FailedPreconditionError(
        "--pivot: no linear of this model is stored as U V or U S V; make some with factorize");
  }
  ThreadPool pool(convert.num_threads > 0 ? convert.num_threads : DefaultNumThreads());
  WorkQueue queue(static_cast<int64_t>(todo.size()), 1);
  Mutex mutex;
  absl::Status error;
  int64_t done = 0;
  pool.Run([&](int) {
    int64_t begin, end;
    while (queue.Next(&begin, &end)) {
      const size_t i = todo[begin];
      absl::Status status = Try(source_.factored()[i], options, entries_[i].get(), &report_[i]);
      MutexLock lock(mutex);
      if (!status.ok() && error.ok()) error = status;
      if (!error.ok()) return;
      if (progress) progress(++done, static_cast<int64_t>(todo.size()));
    }
  });
  RK_RETURN_IF_ERROR(error);
  tensors_ = source_.tensors();
  for (const size_t i : todo) {
    if (report_[i].kept.empty()) Replace(*entries_[i], report_[i], &factored_[i]);
  }
  size_t next = 0;
  std::erase_if(report_, [&](const PivotReport&) { return IsDense(source_.factored()[next++]); });
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_.insert_or_assign(tensors_[i].name, i);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PivotedCheckpoint>> PivotedCheckpoint::Open(
    const Checkpoint& source, const ConvertOptions& convert, const PivotOptions& options,
    const PivotProgress& progress) {
  std::unique_ptr<PivotedCheckpoint> result(new PivotedCheckpoint(source));
  RK_RETURN_IF_ERROR(result->Pivot(convert, options, progress));
  return result;
}

const TensorInfo* PivotedCheckpoint::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

absl::Status PivotedCheckpoint::ReadRows(const TensorInfo& tensor, int64_t row_begin,
                                         int64_t row_end, DType dtype, void* out) const {
  const auto owned = owned_.find(tensor.name);
  if (owned == owned_.end()) return source_.ReadRows(tensor, row_begin, row_end, dtype, out);
  const auto& [entry, part] = owned->second;
  if (part == Part::kRows) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", tensor.name, " holds indices, no floats"));
  }
  MutexLock lock(mutex_);
  if (made_for_ != entry) {
    made_for_ = nullptr;
    RK_ASSIGN_OR_RETURN(const RankProduct product, ReadProduct(*entry->original, source_));
    const Encoding& stored = entry->stored;
    RK_ASSIGN_OR_RETURN(
        made_, PivotAt(product, entry->pivots, [&](Matrix64* m) { return Round(stored, m); }));
    made_for_ = entry;
  }
  const Matrix64& from = part == Part::kC ? made_.c : made_.p;
  if (row_begin < 0 || row_end < row_begin || row_end > from.rows) {
    return absl::OutOfRangeError(absl::StrCat("tensor ", tensor.name, ": rows ", row_begin, " to ",
                                              row_end, " of ", from.rows));
  }
  const std::vector<float> values(from.Row(row_begin),
                                  from.Row(row_begin) + (row_end - row_begin) * from.cols);
  const int64_t bad =
      ConvertFloats(DType::kF32, values.data(), dtype, out, static_cast<int64_t>(values.size()));
  if (bad < 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name, ": the value ",
                                                 values[bad], " does not fit in ",
                                                 Name(dtype).data()));
}

absl::Status PivotedCheckpoint::ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                                        void* out) const {
  const auto owned = owned_.find(tensor.name);
  if (owned == owned_.end()) return source_.ReadRaw(tensor, begin, size, out);
  const auto& [entry, part] = owned->second;
  const auto bytes = static_cast<int64_t>(entry->positions.size() * sizeof(int32_t));
  if (part != Part::kRows || begin < 0 || size < 0 || begin > bytes - size) {
    return absl::OutOfRangeError(
        absl::StrCat("tensor ", tensor.name, ": no bytes ", begin, " to ", begin + size));
  }
  std::memcpy(out, reinterpret_cast<const char*>(entry->positions.data()) + begin,
              static_cast<size_t>(size));
  return absl::OkStatus();
}

}  // namespace rankine
