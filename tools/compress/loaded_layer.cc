#include "tools/compress/loaded_layer.h"

#include "models/status_macros.h"
#include "tools/compress/layer_checkpoint.h"

namespace rankine {

LoadedLayer::LoadedLayer() = default;
LoadedLayer::~LoadedLayer() = default;

absl::StatusOr<std::unique_ptr<LoadedLayer>> LoadedLayer::Create(const Checkpoint& source,
                                                                 int64_t layer,
                                                                 const LayerPart& factored,
                                                                 const Options& options) {
  std::unique_ptr<LoadedLayer> loaded(new LoadedLayer);
  loaded->checkpoint_ =
      std::make_unique<LayerCheckpoint>(source, layer, factored.matrices, factored.tensors);
  RK_ASSIGN_OR_RETURN(loaded->model_,
                      LoadModel(*loaded->checkpoint_, *options.device, {.compute = DType::kF32}));
  loaded->blank_window_.resize(static_cast<size_t>(options.window_tokens));
  const absl::Span<const int32_t> window = loaded->blank_window_;
  RK_ASSIGN_OR_RETURN(
      loaded->pass_,
      LayerPass::Create(*loaded->model_, std::vector<absl::Span<const int32_t>>(
                                             static_cast<size_t>(options.windows), window)));
  return loaded;
}

}  // namespace rankine
