// A model whose logits are a hash of the sequence's own tokens, *as read back from the slots and
// blocks of the cache it was given*: a mix-up of blocks, positions or rows changes the answer.
// Deterministic and fast, for tests of everything above the kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/model.h"

namespace rankine {

struct FakeModelOptions {
  int64_t vocab_size = 97;
  int64_t num_layers = 2;
  int64_t max_position = 256;
  std::vector<int32_t> eos_ids;
  // A token that makes the keys and values of its position NaN, and so all logits that see them;
  // -1 = none. As a real model's kernels may, the fake lets a NaN that is stale in a block through.
  int32_t nan_token = -1;
  int num_threads = 1;
};

// Works with kv_dtype kF32 only.
class FakeModel final : public Model {
 public:
  explicit FakeModel(const FakeModelOptions& options = {});
  ~FakeModel() override;

  // Called on the engine's thread at the start of each pass; set before the engine starts.
  std::function<void(const BatchInput&)> before_pass;

  // The logits that a sequence of these tokens gives, without a cache: the oracle.
  std::vector<float> LogitsOf(const std::vector<int32_t>& tokens) const;
  // The greedy answer of at most max_new_tokens tokens, which ends after an eos id.
  std::vector<int32_t> GreedyAnswer(std::vector<int32_t> prompt, int64_t max_new_tokens) const;

  const ModelShape& shape() const override { return shape_; }
  Device& device() const override { return *device_; }
  absl::StatusOr<std::unique_ptr<Workspace>> NewWorkspace(
      const ForwardLimits& limits) const override;
  void Embed(const BatchInput& batch, Workspace& workspace) const override;
  void Layer(int64_t layer, const BatchInput& batch, const KvCache* cache, Workspace& workspace,
             ActivationObserver* observer = nullptr) const override;
  MatrixView Head(const BatchInput& batch, Workspace& workspace) const override;
  int64_t weight_bytes() const override { return 0; }
  int64_t weight_bytes_per_token() const override { return 0; }
  int64_t operations_per_token() const override { return 0; }

 private:
  FakeModelOptions options_;
  ModelShape shape_;
  std::unique_ptr<Device> device_;
};

// Holds the passes of a FakeModel until the test lets them go: steps become deterministic.
//   model.before_pass = [&](const BatchInput&) { gate.Pass(); };
class Gate {
 public:
  Gate();
  ~Gate();
  // The engine's side: announces itself, then blocks until allowed.
  void Pass();
  // The test's side. Blocks until the engine stands in its n-th pass, counted from 1.
  void WaitForPass(int64_t n);
  // Lets the passes up to the n-th through.
  void AllowUntil(int64_t n);
  // Lets all through from now on.
  void Open();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rankine
