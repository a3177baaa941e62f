#include "runtime/factor/factored_matrix.h"

#include <utility>

namespace rankine {

const std::string& Core::TensorOf(const std::string& role) const {
  static const std::string kNone;
  for (const CoreTensor& t : tensors) {
    if (t.role == role) return t.tensor;
  }
  return kNone;
}

std::vector<int64_t> Core::StoredShape() const {
  std::vector<int64_t> shape;
  for (const LegRange& leg : legs)
    shape.push_back(leg.stored_extent != 0 ? leg.stored_extent : leg.extent);
  if (!shape.empty()) shape[0] -= identity_rows();
  return shape;
}

int64_t Core::NumParameters() const {
  int64_t size = 1;
  for (const LegRange& leg : legs) size *= leg.extent;
  return size - identity_rows() * identity_rows();
}

int64_t FactoredMatrix::NumParameters() const {
  int64_t total = bias_tensor.empty() ? 0 : out_features;
  for (const Term& term : terms) {
    for (const Core& core : term.cores) total += core.NumParameters();
  }
  return total;
}

FactoredMatrix DenseMatrix(std::string name, int64_t out_features, int64_t in_features,
                           Encoding encoding, std::string tensor, std::string bias_tensor) {
  FactoredMatrix m{
      .name = std::move(name), .out_features = out_features, .in_features = in_features};
  m.output_legs = {{"o", out_features}};
  m.input_legs = {{"i", in_features}};
  m.terms = {Term{{Core{.name = "W",
                        .legs = {{"o", 0, out_features}, {"i", 0, in_features}},
                        .encoding = encoding,
                        .tensors = {{"values", std::move(tensor)}}}}}};
  m.bias_tensor = std::move(bias_tensor);
  return m;
}

FactoredMatrix SvdMatrix(std::string name, int64_t out_features, int64_t in_features, int64_t rank,
                         Encoding encoding, std::string bias_tensor) {
  FactoredMatrix m{.name = name, .out_features = out_features, .in_features = in_features};
  m.output_legs = {{"o", out_features}};
  m.input_legs = {{"i", in_features}};
  const LegRange o{"o", 0, out_features}, i{"i", 0, in_features}, r{"r", 0, rank};
  m.terms = {Term{{
      Core{.name = "U", .legs = {o, r}, .encoding = encoding, .tensors = {{"values", name + ".U"}}},
      Core{.name = "S",
           .legs = {r},
           .encoding = Encoding::Float(DType::kF32),
           .tensors = {{"values", name + ".S"}}},
      Core{.name = "V", .legs = {r, i}, .encoding = encoding, .tensors = {{"values", name + ".V"}}},
  }}};
  m.bias_tensor = std::move(bias_tensor);
  m.sorted_leg = "r";
  return m;
}

bool IsDense(const FactoredMatrix& m) {
  return m.terms.size() == 1 && m.terms[0].cores.size() == 1 && m.input_transforms.empty() &&
         m.output_transforms.empty();
}

}  // namespace rankine
