#include "runtime/model.h"

namespace rankine {

MatrixView Forward(const Model& model, const BatchInput& batch, const KvCache* cache,
                   Workspace& workspace) {
  model.Embed(batch, workspace);
  for (int64_t layer = 0; layer < model.shape().num_layers; ++layer) {
    model.Layer(layer, batch, cache, workspace);
  }
  if (batch.num_logits() == 0) return MatrixView{};
  return model.Head(batch, workspace);
}

}  // namespace rankine
