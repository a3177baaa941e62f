// A 128-bit digest that tells two models, texts or files apart. It guards against mistakes and
// damage, not against an adversary, and so may be fast: models of many gigabytes pass through it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

class Fingerprint {
 public:
  // The length counts: Add("ab"), Add("c") differs from Add("a"), Add("bc").
  void Add(const void* data, int64_t bytes);
  void Add(std::string_view text) { Add(text.data(), static_cast<int64_t>(text.size())); }
  void Add(int64_t value) { Add(&value, sizeof(value)); }

  // 32 hexadecimal digits.
  std::string Hex() const;

 private:
  void Mix(uint64_t word);

  uint64_t a_ = 0x9e3779b97f4a7c15u;
  uint64_t b_ = 0xc2b2ae3d27d4eb4fu;
};

// Of everything that decides what a model computes: its config, and every tensor's name, shape and
// values, and the description of its factored linears. Reads the whole model once.
absl::StatusOr<std::string> ModelFingerprint(const Checkpoint& checkpoint);

// Of a file's bytes. Empty for no file, or one that cannot be read (whose reader says so).
std::string FileFingerprint(const std::string& path);

std::string TokensFingerprint(absl::Span<const int32_t> tokens);

}  // namespace rankine
