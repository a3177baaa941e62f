// The oracle of the KV cache's writer and reader: an element at a time, double inside, one thread.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

// Where one (block, head)'s key or value of a token stands.
int64_t KeyIndex(const KvLayer& c, int64_t block, int64_t head, int64_t offset, int64_t dim) {
  return ((block * c.kv_heads + head) * c.head_dim + dim) * kKvBlockTokens + offset;
}
int64_t ValueIndex(const KvLayer& c, int64_t block, int64_t head, int64_t offset, int64_t dim) {
  return ((block * c.kv_heads + head) * kKvBlockTokens + offset) * c.head_dim + dim;
}
int64_t ScaleIndex(const KvLayer& c, int64_t block, int64_t head, int64_t offset) {
  return (block * c.kv_heads + head) * kKvBlockTokens + offset;
}

double Read(const KvLayer& c, const void* data, const float* scales, int64_t index,
            int64_t scale_index) {
  switch (c.dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kF16:
      return ToFloat(static_cast<const F16*>(data)[index]);
    case DType::kBF16:
      return ToFloat(static_cast<const BF16*>(data)[index]);
    case DType::kI8:
      return static_cast<double>(static_cast<const int8_t*>(data)[index]) * scales[scale_index];
    default:
      RK_CHECK(false);
      return 0;
  }
}

void Write(const KvLayer& c, void* data, int64_t index, float value, float scale) {
  switch (c.dtype) {
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      return;
    case DType::kF16:
      static_cast<F16*>(data)[index] = ToF16(value);
      return;
    case DType::kBF16:
      static_cast<BF16*>(data)[index] = ToBF16(value);
      return;
    case DType::kI8: {
      const float code = scale > 0 ? std::nearbyint(value / scale) : 0.0f;
      static_cast<int8_t*>(data)[index] = static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f));
      return;
    }
    default:
      RK_CHECK(false);
  }
}

// NaN when a value is NaN or infinite, so that a fault is seen at the logits and not rounded away.
float Int8Scale(const float* values, int64_t n) {
  float largest = 0;
  float poison = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(values[i]));
    poison += values[i] * 0.0f;
  }
  return largest / 127.0f + poison;
}

void Rotate(float* row, const float* cos, const float* sin, int64_t half) {
  for (int64_t j = 0; j < half; ++j) {
    const double a = row[j];
    const double b = row[j + half];
    row[j] = static_cast<float>(a * cos[j] - b * sin[j]);
    row[j + half] = static_cast<float>(b * cos[j] + a * sin[j]);
  }
}

void Append(const KvLayer& c, int64_t slot, int64_t head, const float* key, const float* value) {
  const int64_t block = slot / kKvBlockTokens;
  const int64_t offset = slot % kKvBlockTokens;
  float key_scale = 0;
  float value_scale = 0;
  if (c.dtype == DType::kI8) {
    key_scale = Int8Scale(key, c.head_dim);
    value_scale = Int8Scale(value, c.head_dim);
    c.key_scales[ScaleIndex(c, block, head, offset)] = key_scale;
    c.value_scales[ScaleIndex(c, block, head, offset)] = value_scale;
  }
  for (int64_t d = 0; d < c.head_dim; ++d) {
    Write(c, c.keys, KeyIndex(c, block, head, offset, d), key[d], key_scale);
    Write(c, c.values, ValueIndex(c, block, head, offset, d), value[d], value_scale);
  }
}

void RopeAppend(const RopeAppendArgs& args, Stream) {
  const KvLayer& c = args.cache;
  const int64_t half = c.head_dim / 2;
  std::vector<float> key(static_cast<size_t>(c.head_dim));
  for (int64_t row = 0; row < args.q.rows; ++row) {
    const bool rotates = args.cos != nullptr;
    const float* cos = rotates ? args.cos + row * half : nullptr;
    const float* sin = rotates ? args.sin + row * half : nullptr;
    for (int64_t h = 0; rotates && h < args.num_heads; ++h) {
      Rotate(args.q.Row<float>(row) + h * c.head_dim, cos, sin, half);
    }
    for (int64_t h = 0; h < c.kv_heads; ++h) {
      const float* from = args.k.Row<float>(row) + h * c.head_dim;
      std::copy(from, from + c.head_dim, key.begin());
      if (rotates) Rotate(key.data(), cos, sin, half);
      Append(c, args.slots[row], h, key.data(), args.v.Row<float>(row) + h * c.head_dim);
    }
  }
}

// softmax(scale q K^T) V of one head over positions [0, context), into `result` [head_dim].
void AttendOne(const AttentionArgs& args, const AttentionSequence& sequence, const float* q,
               int64_t kv_head, int64_t context, std::vector<double>* result) {
  const KvLayer& c = args.cache;
  std::vector<double> weights(static_cast<size_t>(context));
  for (int64_t p = 0; p < context; ++p) {
    const int64_t block = sequence.block_ids[p / kKvBlockTokens];
    const int64_t offset = p % kKvBlockTokens;
    double dot = 0;
    for (int64_t d = 0; d < c.head_dim; ++d) {
      dot += q[d] * Read(c, c.keys, c.key_scales, KeyIndex(c, block, kv_head, offset, d),
                         ScaleIndex(c, block, kv_head, offset));
    }
    weights[static_cast<size_t>(p)] = dot * args.scale;
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& w : weights) sum += (w = std::exp(w - largest));
  std::fill(result->begin(), result->end(), 0.0);
  for (int64_t p = 0; p < context; ++p) {
    const int64_t block = sequence.block_ids[p / kKvBlockTokens];
    const int64_t offset = p % kKvBlockTokens;
    for (int64_t d = 0; d < c.head_dim; ++d) {
      (*result)[static_cast<size_t>(d)] +=
          weights[static_cast<size_t>(p)] / sum *
          Read(c, c.values, c.value_scales, ValueIndex(c, block, kv_head, offset, d),
               ScaleIndex(c, block, kv_head, offset));
    }
  }
}

template <class T>
void StoreHead(const MatrixView& out, int64_t row, int64_t head, const std::vector<double>& from) {
  const int64_t n = static_cast<int64_t>(from.size());
  T* to = out.Row<T>(row);
  for (int64_t d = 0; d < n; ++d) {
    to[head * n + d] = FromFloat<T>(static_cast<float>(from[static_cast<size_t>(d)]));
  }
  for (int64_t i = out.cols; i < RoundUp(out.cols, kColumnPad); ++i) to[i] = FromFloat<T>(0.0f);
}

void Attention(const AttentionArgs& args, Stream) {
  const int64_t group = args.num_heads / args.cache.kv_heads;
  std::vector<double> result(static_cast<size_t>(args.cache.head_dim));
  for (int64_t s = 0; s < args.num_sequences; ++s) {
    const AttentionSequence& sequence = args.sequences[s];
    for (int64_t t = 0; t < sequence.num_tokens; ++t) {
      const int64_t row = sequence.first_row + t;
      for (int64_t h = 0; h < args.num_heads; ++h) {
        AttendOne(args, sequence, args.q.Row<float>(row) + h * args.cache.head_dim, h / group,
                  sequence.first_position + (args.causal ? t + 1 : sequence.num_tokens), &result);
        if (args.out.dtype == DType::kBF16) {
          StoreHead<BF16>(args.out, row, h, result);
        } else {
          RK_CHECK(args.out.dtype == DType::kF32);
          StoreHead<float>(args.out, row, h, result);
        }
      }
    }
  }
}

}  // namespace

void FillRefAttention(OpTable* table) {
  table->rope_append = RopeAppend;
  table->attention = Attention;
}

}  // namespace rankine
