#include "tools/compress/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/checkpoint/float_convert.h"
#include "models/encode/encoding_name.h"

namespace rankine {
namespace {

// Odd constants with about half of the bits set, so that a multiplication spreads every bit upward.
constexpr uint64_t kMultiplierA = 0xff51afd7ed558ccdu;
constexpr uint64_t kMultiplierB = 0xc4ceb9fe1a85ec53u;

// Values read at a time; any block does, as long as it never changes the digest of a tensor.
constexpr int64_t kBlockValues = int64_t{1} << 20;

uint64_t Avalanche(uint64_t x) {
  x ^= x >> 33;
  x *= kMultiplierA;
  x ^= x >> 29;
  x *= kMultiplierB;
  return x ^ (x >> 32);
}

void AddConfig(const ModelConfig& c, Fingerprint* f) {
  f->Add(c.architecture);
  for (int64_t v : {c.vocab_size, c.hidden_size, c.intermediate_size, c.num_layers, c.num_heads,
                    c.num_kv_heads, c.head_dim, c.rope.original_max_position,
                    static_cast<int64_t>(c.rope.type), static_cast<int64_t>(c.tie_embeddings)}) {
    f->Add(v);
  }
  for (double v : {c.rms_norm_eps, c.rope.theta, c.rope.factor, c.rope.low_freq_factor,
                   c.rope.high_freq_factor}) {
    f->Add(std::bit_cast<int64_t>(v));
  }
  f->Add(c.rope.frequency_divisors.data(),
         static_cast<int64_t>(c.rope.frequency_divisors.size() * sizeof(float)));
}

// Codes, signs and indices.
absl::Status AddBytes(const Checkpoint& checkpoint, const TensorInfo& tensor, Fingerprint* f) {
  std::vector<char> block(static_cast<size_t>(std::min(kBlockValues, tensor.stored_bytes)));
  for (int64_t begin = 0; begin < tensor.stored_bytes; begin += kBlockValues) {
    const int64_t size = std::min(kBlockValues, tensor.stored_bytes - begin);
    auto status = checkpoint.ReadRaw(tensor, begin, size, block.data());
    if (!status.ok()) return status;
    f->Add(block.data(), size);
  }
  return absl::OkStatus();
}

absl::Status AddTensor(const Checkpoint& checkpoint, const TensorInfo& tensor, Fingerprint* f) {
  f->Add(tensor.name);
  for (int64_t extent : tensor.shape) f->Add(extent);
  if (!IsFloat(tensor.natural_dtype)) return AddBytes(checkpoint, tensor, f);
  const int64_t rows = tensor.shape.size() < 2 ? 1 : tensor.shape[0];
  int64_t cols = 1;
  for (size_t i = tensor.shape.size() < 2 ? 0 : 1; i < tensor.shape.size(); ++i)
    cols *= tensor.shape[i];
  const int64_t block = std::max<int64_t>(1, kBlockValues / std::max<int64_t>(1, cols));
  const auto value_bytes = static_cast<int64_t>(SizeOf(tensor.natural_dtype));
  std::vector<char> values(std::min(block, rows) * cols * value_bytes);
  for (int64_t row = 0; row < rows; row += block) {
    const int64_t end = std::min(rows, row + block);
    auto status = checkpoint.ReadRows(tensor, row, end, tensor.natural_dtype, values.data());
    if (!status.ok()) return status;
    f->Add(values.data(), (end - row) * cols * value_bytes);
  }
  return absl::OkStatus();
}

void AddMatrix(const FactoredMatrix& m, Fingerprint* f) {
  f->Add(m.name);
  for (const Term& term : m.terms) {
    for (const Core& core : term.cores) {
      f->Add(core.name);
      f->Add(EncodingName(core.encoding));
      if (core.leading_identity) f->Add("leading_identity");
      for (const LegRange& leg : core.legs) {
        f->Add(leg.name);
        f->Add(leg.offset);
        f->Add(leg.extent);
      }
      for (const CoreTensor& t : core.tensors) f->Add(absl::StrCat(t.role, "=", t.tensor));
    }
  }
}

}  // namespace

void Fingerprint::Mix(uint64_t word) {
  a_ = std::rotl((a_ ^ word) * kMultiplierA, 29);
  b_ = (b_ + word) * kMultiplierB;
  b_ ^= b_ >> 32;
}

void Fingerprint::Add(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  Mix(static_cast<uint64_t>(bytes));
  uint64_t word = 0;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    std::memcpy(&word, p, 8);
    Mix(word);
  }
  if (bytes == 0) return;
  word = 0;
  std::memcpy(&word, p, static_cast<size_t>(bytes));
  Mix(word);
}

std::string Fingerprint::Hex() const {
  return absl::StrFormat("%016x%016x", Avalanche(a_ ^ std::rotl(b_, 17)), Avalanche(b_ + a_));
}

absl::StatusOr<std::string> ModelFingerprint(const Checkpoint& checkpoint) {
  Fingerprint f;
  AddConfig(checkpoint.config(), &f);
  // By name: the order of tensors in a file means nothing.
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& t : checkpoint.tensors()) tensors.push_back(&t);
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
  for (const TensorInfo* t : tensors) {
    if (auto status = AddTensor(checkpoint, *t, &f); !status.ok()) return status;
  }
  for (const FactoredMatrix& m : checkpoint.factored()) AddMatrix(m, &f);
  return f.Hex();
}

std::string FileFingerprint(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (path.empty() || !in) return "";
  Fingerprint f;
  f.Add(std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>()));
  return f.Hex();
}

std::string TokensFingerprint(absl::Span<const int32_t> tokens) {
  Fingerprint f;
  f.Add(tokens.data(), static_cast<int64_t>(tokens.size() * sizeof(int32_t)));
  return f.Hex();
}

}  // namespace rankine
