#include "tests/testing/fake_model.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/mutex.h"

namespace rankine {
namespace {

constexpr int64_t kHeads = 1;
constexpr int64_t kHeadDim = 2;  // 0: the token, 1: its position

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b + 0x7F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// One more (token, position), as read from a layer.
uint64_t Extend(uint64_t hash, int64_t layer, int64_t token, int64_t position) {
  return Mix(Mix(Mix(hash, layer), token), position);
}

// In [-4, 4), ties practically never.
float LogitOf(uint64_t hash, int64_t id) {
  return static_cast<float>(Mix(hash, id) >> 40) * 0x1.0p-21f - 4.0f;
}

struct FakeWorkspace final : public Workspace {
  FakeWorkspace(const ForwardLimits& limits, const ModelShape& shape)
      : limits(limits),
        hidden_size(shape.hidden_size),
        residual(limits.max_tokens * shape.hidden_size),
        logits(limits.max_logit_rows * shape.vocab_size),
        hashes(limits.max_logit_rows) {}
  MatrixView hidden() override {
    return {.data = residual.data(),
            .rows = limits.max_tokens,
            .cols = hidden_size,
            .stride = hidden_size};
  }
  int64_t bytes() const override { return (residual.size() + logits.size()) * sizeof(float); }

  ForwardLimits limits;
  int64_t hidden_size;
  std::vector<float> residual, logits;
  std::vector<uint64_t> hashes;  // of each row of logits, over the layers so far
  std::vector<bool> poisoned;    // of each row of logits
};

int64_t KeyIndex(const KvLayer& layer, int64_t slot, int64_t dim) {
  const int64_t block = slot / kKvBlockTokens;
  return block * layer.block_elements() + dim * kKvBlockTokens + slot % kKvBlockTokens;
}

const AttentionSequence& SequenceOfRow(const BatchInput& batch, int64_t row) {
  for (const AttentionSequence& s : batch.sequences) {
    if (row >= s.first_row && row < s.first_row + s.num_tokens) return s;
  }
  RK_CHECK(false);
  return batch.sequences[0];
}

// True when a value in the blocks of positions 0..last is NaN, stale ones included.
bool BlocksHoldNan(const KvLayer& layer, const int32_t* block_ids, int64_t last) {
  const float* values = static_cast<const float*>(layer.values);
  for (int64_t b = 0; b <= last / kKvBlockTokens; ++b) {
    const float* block = values + block_ids[b] * layer.block_elements();
    for (int64_t i = 0; i < layer.block_elements(); ++i) {
      if (block[i] != block[i]) return true;
    }
  }
  return false;
}

}  // namespace

FakeModel::FakeModel(const FakeModelOptions& options) : options_(options) {
  shape_ = {.vocab_size = options.vocab_size,
            .hidden_size = 16,
            .num_layers = options.num_layers,
            .kv_heads = kHeads,
            .head_dim = kHeadDim,
            .max_position = options.max_position,
            .eos_ids = options.eos_ids};
  device_ = std::move(*MakeCpuDevice({.num_threads = options.num_threads, .isa = "ref"}));
}

FakeModel::~FakeModel() = default;

std::vector<float> FakeModel::LogitsOf(const std::vector<int32_t>& tokens) const {
  uint64_t hash = 0;
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    for (size_t i = 0; i < tokens.size(); ++i) hash = Extend(hash, layer, tokens[i], i);
  }
  std::vector<float> logits;
  for (int64_t id = 0; id < shape_.vocab_size; ++id) logits.push_back(LogitOf(hash, id));
  return logits;
}

std::vector<int32_t> FakeModel::GreedyAnswer(std::vector<int32_t> prompt,
                                             int64_t max_new_tokens) const {
  std::vector<int32_t> answer;
  for (int64_t i = 0; i < max_new_tokens; ++i) {
    const std::vector<float> logits = LogitsOf(prompt);
    const int32_t token =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    answer.push_back(token);
    prompt.push_back(token);
    const auto& eos = shape_.eos_ids;
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) break;
  }
  return answer;
}

absl::StatusOr<std::unique_ptr<Workspace>> FakeModel::NewWorkspace(
    const ForwardLimits& limits) const {
  return std::make_unique<FakeWorkspace>(limits, shape_);
}

void FakeModel::Embed(const BatchInput& batch, Workspace& workspace) const {
  if (before_pass) before_pass(batch);
  FakeWorkspace& w = static_cast<FakeWorkspace&>(workspace);
  RK_CHECK(batch.num_tokens() > 0 && batch.num_tokens() <= w.limits.max_tokens);
  RK_CHECK(batch.num_logits() <= w.limits.max_logit_rows);
  for (int32_t id : batch.token_ids) RK_CHECK(id >= 0 && id < shape_.vocab_size);
  for (int32_t p : batch.positions) RK_CHECK(p >= 0 && p < w.limits.max_context);
  RK_CHECK(std::set<int64_t>(batch.slots.begin(), batch.slots.end()).size() == batch.slots.size());
  std::fill(w.hashes.begin(), w.hashes.end(), 0);
  w.poisoned.assign(w.hashes.size(), false);
}

void FakeModel::Layer(int64_t layer, const BatchInput& batch, const KvCache* cache,
                      Workspace& workspace, ActivationObserver*) const {
  FakeWorkspace& w = static_cast<FakeWorkspace&>(workspace);
  const KvLayer& kv = cache->layer(layer);
  RK_CHECK(kv.dtype == DType::kF32);
  float* keys = static_cast<float*>(kv.keys);
  float* values = static_cast<float*>(kv.values);
  for (int64_t row = 0; row < batch.num_tokens(); ++row) {
    const int32_t token = batch.token_ids[row];
    keys[KeyIndex(kv, batch.slots[row], 0)] = static_cast<float>(token);
    keys[KeyIndex(kv, batch.slots[row], 1)] = static_cast<float>(batch.positions[row]);
    values[KeyIndex(kv, batch.slots[row], 0)] =
        token == options_.nan_token ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
  }
  for (int64_t i = 0; i < batch.num_logits(); ++i) {
    const int64_t row = batch.logit_rows[i];
    const AttentionSequence& s = SequenceOfRow(batch, row);
    const int64_t last = s.first_position + row - s.first_row;
    for (int64_t p = 0; p <= last; ++p) {
      const int64_t slot = s.block_ids[p / kKvBlockTokens] * kKvBlockTokens + p % kKvBlockTokens;
      w.hashes[i] = Extend(w.hashes[i], layer, static_cast<int64_t>(keys[KeyIndex(kv, slot, 0)]),
                           static_cast<int64_t>(keys[KeyIndex(kv, slot, 1)]));
    }
    if (BlocksHoldNan(kv, s.block_ids, last)) w.poisoned[i] = true;
  }
}

MatrixView FakeModel::Head(const BatchInput& batch, Workspace& workspace) const {
  FakeWorkspace& w = static_cast<FakeWorkspace&>(workspace);
  RK_CHECK(batch.num_logits() > 0);
  const int64_t n = shape_.vocab_size;
  for (int64_t i = 0; i < batch.num_logits(); ++i) {
    for (int64_t id = 0; id < n; ++id) w.logits[i * n + id] = LogitOf(w.hashes[i], id);
    if (w.poisoned[i]) w.logits[i * n + n / 2] = std::numeric_limits<float>::quiet_NaN();
  }
  return {.data = w.logits.data(), .rows = batch.num_logits(), .cols = n, .stride = n};
}

struct Gate::Impl {
  Mutex mutex;
  CondVar changed;
  int64_t arrived = 0;
  int64_t allowed = 0;
};

Gate::Gate() : impl_(std::make_unique<Impl>()) {}
Gate::~Gate() = default;

void Gate::Pass() {
  MutexLock lock(impl_->mutex);
  const int64_t pass = ++impl_->arrived;
  impl_->changed.notify_all();
  while (impl_->allowed < pass) impl_->changed.wait(impl_->mutex);
}

void Gate::WaitForPass(int64_t n) {
  MutexLock lock(impl_->mutex);
  while (impl_->arrived < n) impl_->changed.wait(impl_->mutex);
}

void Gate::AllowUntil(int64_t n) {
  MutexLock lock(impl_->mutex);
  impl_->allowed = std::max(impl_->allowed, n);
  impl_->changed.notify_all();
}

void Gate::Open() { AllowUntil(std::numeric_limits<int64_t>::max()); }

}  // namespace rankine
