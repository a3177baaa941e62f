#include "models/checkpoint/checkpoint.h"

#include <utility>

#include "kernels/base/check.h"

namespace rankine {

FactoredMatrix BlocksMatrix(std::string name, const TensorInfo& tensor, std::string bias_tensor) {
  RK_CHECK(tensor.natural_encoding.has_value() && tensor.shape.size() == 2);
  FactoredMatrix matrix =
      DenseMatrix(std::move(name), tensor.shape[0], tensor.shape[1], *tensor.natural_encoding,
                  tensor.name, std::move(bias_tensor));
  matrix.terms[0].cores[0].tensors[0].role = "blocks";
  return matrix;
}

}  // namespace rankine
