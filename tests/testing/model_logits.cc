#include "tests/testing/model_logits.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "models/loader.h"
#include "tests/testing/tiny_model.h"

namespace rankine::testing {

std::vector<float> F32Logits(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens) {
  auto device = MakeCpuDevice({.num_threads = 2});
  RK_CHECK(device.ok());
  auto model =
      LoadModel(checkpoint, **device, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  RK_CHECK(model.ok());
  const ModelShape& shape = (*model)->shape();
  const auto count = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> blocks(CeilDiv(count, kKvBlockTokens));
  std::iota(blocks.begin(), blocks.end(), 0);
  auto cache = KvCache::Create(**device, {.num_layers = shape.num_layers,
                                          .kv_heads = shape.kv_heads,
                                          .head_dim = shape.head_dim,
                                          .num_blocks = static_cast<int64_t>(blocks.size()),
                                          .dtype = DType::kF32});
  auto workspace =
      (*model)->NewWorkspace({.max_tokens = count, .max_logit_rows = count, .max_context = count});
  RK_CHECK(cache.ok() && workspace.ok());
  BatchInput batch;
  batch.AddSequence(tokens.data(), count, 0, blocks.data());
  batch.logit_rows.resize(tokens.size());
  std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), 0);
  const MatrixView logits = Forward(**model, batch, &*cache, **workspace);
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i) {
    result.insert(result.end(), logits.Row<float>(i), logits.Row<float>(i) + shape.vocab_size);
  }
  return result;
}

std::vector<int32_t> GoldenTokens(const std::string& folder) {
  return nlohmann::json::parse(ReadWholeFile(folder + "/tokens.json")).get<std::vector<int32_t>>();
}

std::vector<float> GoldenLogits(const std::string& folder) {
  const std::string bytes = ReadWholeFile(folder + "/logits.bin");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

double RelativeDistance(const std::vector<float>& a, const std::vector<float>& b) {
  RK_CHECK(a.size() == b.size());
  double distance = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    distance += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(distance / norm);
}

}  // namespace rankine::testing
