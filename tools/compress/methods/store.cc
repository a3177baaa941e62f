#include "tools/compress/methods/store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/checkpoint/core_writer.h"
#include "models/encode/block_storage.h"
#include "models/encode/quantise.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

Core MakeCore(const CoreArgs& args, const Encoding& encoding) {
  Core core{.name = args.name, .legs = args.legs, .encoding = encoding};
  NameTensors(absl::StrCat(args.matrix, ".", args.name), &core);
  return core;
}

int64_t StoredExtent(const LegRange& leg) {
  return leg.stored_extent != 0 ? leg.stored_extent : leg.extent;
}

}  // namespace

absl::Status AddBlockCore(const CoreArgs& args, const BlockRowsBuffer& rows, Term* term,
                          std::vector<StoredTensor>* tensors) {
  Core core = MakeCore(args, rows.encoding);
  RK_CHECK(rows.cols == StoredExtent(args.legs.back()));
  const std::vector<TensorSpec> specs = SpecsOf(core);
  const std::vector<BlockRole> roles = BlockRoles(rows.encoding, rows.cols);
  for (size_t i = 0; i < roles.size(); ++i) {
    const std::vector<uint8_t> bytes = StoreRole(rows.view(), roles[i]);
    tensors->push_back({.name = specs[i].name,
                        .dtype = specs[i].dtype,
                        .shape = specs[i].shape,
                        .bytes = std::string(bytes.begin(), bytes.end())});
  }
  term->cores.push_back(std::move(core));
  return absl::OkStatus();
}

absl::Status AddCore(const CoreArgs& args, Term* term, std::vector<StoredTensor>* tensors) {
  const bool is_vector = args.legs.size() == 1;
  const Encoding encoding = is_vector ? Encoding::Float(DType::kF32) : args.encoding;
  Core core = MakeCore(args, encoding);
  std::vector<int64_t> shape;
  for (const LegRange& leg : args.legs) shape.push_back(StoredExtent(leg));
  if (encoding.IsFloat()) {
    RK_ASSIGN_OR_RETURN(StoredTensor tensor,
                        StoreValues(core.TensorOf("values"), encoding.dtype, shape, args.values));
    tensors->push_back(std::move(tensor));
    term->cores.push_back(std::move(core));
    return absl::OkStatus();
  }
  const int64_t cols = shape.back(), count = static_cast<int64_t>(args.values.size());
  const std::string name = absl::StrCat(args.matrix, ".", args.name, ": ");
  if (auto status = CheckCanEncode(encoding, cols); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(name, status.message()));
  }
  const std::vector<float> values(args.values.begin(), args.values.end());
  BlockRowsBuffer rows;
  if (auto status = EncodeRows(values.data(), count / cols, cols, encoding, &rows); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(name, status.message()));
  }
  return AddBlockCore(args, rows, term, tensors);
}

FactoredMatrix MatrixOf(const MethodInput& input) {
  FactoredMatrix m{
      .name = input.name, .out_features = input.weight->rows, .in_features = input.weight->cols};
  m.output_legs = {{"o", m.out_features}};
  m.input_legs = {{"i", m.in_features}};
  m.bias_tensor = input.bias_tensor;
  return m;
}

absl::StatusOr<Factorization> StoreSvd(const MethodInput& input, const SvdFactors& factors) {
  const int64_t m = factors.u.rows, n = factors.v.cols;
  const auto r = static_cast<int64_t>(factors.s.size());
  Factorization result{.matrix = MatrixOf(input), .rank = r};
  result.matrix.sorted_leg = "r";
  Term term;
  const auto add = [&](const char* name, std::vector<LegRange> legs,
                       absl::Span<const double> values) {
    return AddCore({.matrix = input.name,
                    .name = name,
                    .legs = std::move(legs),
                    .encoding = input.encoding,
                    .values = values},
                   &term, &result.tensors);
  };
  const LegRange o{"o", 0, m}, i{"i", 0, n}, bond{"r", 0, r};
  RK_RETURN_IF_ERROR(add("U", {o, bond}, factors.u.values));
  RK_RETURN_IF_ERROR(add("S", {bond}, factors.s));
  RK_RETURN_IF_ERROR(add("V", {bond, i}, factors.v.values));
  result.matrix.terms.push_back(std::move(term));
  return result;
}

absl::StatusOr<Factorization> FactorizeWeighted(const MethodInput& input, const Matrix64& h) {
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors factors, WeightedSvd(w, h, rank));
  return StoreSvd(input, factors);
}

Matrix64 DiagonalMatrix(const std::vector<double>& diagonal) {
  const auto n = static_cast<int64_t>(diagonal.size());
  Matrix64 d(n, n);
  for (int64_t i = 0; i < n; ++i) d(i, i) = diagonal[i];
  return d;
}

absl::Status AddBias(const std::vector<double>& bias, Factorization* factorization) {
  FactoredMatrix& m = factorization->matrix;
  m.bias_tensor = absl::StrCat(m.name, ".bias");
  RK_ASSIGN_OR_RETURN(StoredTensor tensor, StoreValues(m.bias_tensor, DType::kF32,
                                                       {static_cast<int64_t>(bias.size())}, bias));
  factorization->tensors.push_back(std::move(tensor));
  factorization->bias.clear();
  for (const double b : bias) factorization->bias.push_back(static_cast<float>(b));
  return absl::OkStatus();
}

}  // namespace rankine
