// Multiplied-out matrices against the reference that knows legs alone
// (tests/testing/network_testing.h).
#include "tools/export/dense_weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/testing/network_testing.h"

namespace rankine {
namespace {

constexpr Encoding kFloat = Encoding::Float(DType::kF32);
constexpr Encoding kInt4{.kind = EncodingKind::kAffine, .bits = 4, .group = 16};

// Tensors in memory as a checkpoint: what DenseWeight reads of one.
class MemoryCheckpoint : public Checkpoint {
 public:
  MemorySource& source() { return source_; }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    TensorInfo& info = found_[std::string(name)];
    info.name = name;
    const auto rows = source_.NumRows(info.name);
    info.shape = {rows.ok() ? *rows : 1};
    if (!rows.ok()) {
      info.shape = {static_cast<int64_t>(source_.indices(info.name).size())};
    } else if (const auto cols = static_cast<int64_t>(source_.at(info.name).size()) / *rows;
               *rows > 1) {
      info.shape.push_back(cols);
    } else {
      info.shape = {cols};
    }
    return &info;
  }
  absl::Status ReadRows(const TensorInfo& tensor, int64_t begin, int64_t end, DType dtype,
                        void* out) const override {
    const int64_t cols = tensor.shape.size() == 1 ? tensor.shape[0] : tensor.shape[1];
    return source_.ReadRows(tensor.name, begin, end, cols, dtype, out);
  }
  absl::Status ReadBlockRows(const Core& core, int64_t begin, int64_t end, int64_t cols,
                             BlockRowsBuffer* out) const override {
    return source_.ReadBlockRows(core, begin, end, cols, out);
  }
  absl::Status ReadRaw(const TensorInfo&, int64_t, int64_t, void*) const override {
    return absl::UnimplementedError("raw");
  }
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return folder_; }
  const GgufVocabulary* gguf_vocabulary() const override { return nullptr; }

 private:
  MemorySource source_;
  mutable std::map<std::string, TensorInfo> found_;
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::vector<FactoredMatrix> factored_;
  std::string folder_;
};

// W of DenseWeight against the outputs for the columns of the identity.
void ExpectEqualsReference(const FactoredMatrix& matrix, const MemoryCheckpoint& checkpoint,
                           const MemorySource& source) {
  ThreadPool pool(2);
  const auto w = DenseWeight(checkpoint, matrix, pool);
  ASSERT_TRUE(w.ok()) << w.status();
  const int64_t n = matrix.in_features, m = matrix.out_features;
  std::vector<float> identity(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) identity[i * n + i] = 1;
  std::vector<double> magnitude;
  FactoredMatrix no_bias = matrix;
  no_bias.bias_tensor.clear();
  const std::vector<double> y = ReferenceOutput(no_bias, source, identity, n, &magnitude);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t o = 0; o < m; ++o) {
      // Both are sums of at most a few thousand products in f64.
      ASSERT_NEAR((*w)(o, i), y[i * m + o], 1e-12 * magnitude[i * m + o] + 1e-300)
          << matrix.name << " " << o << " " << i;
    }
  }
}

TEST(DenseWeight, EqualsTheReferenceInEveryForm) {
  for (const Encoding& encoding : {kFloat, kInt4}) {
    MemoryCheckpoint checkpoint;
    MemorySource& s = checkpoint.source();
    const FactoredMatrix matrices[] = {
        RandomDense(&s, "dense", 80, 48, encoding, 1),
        RandomSvd(&s, "svd", 80, 48, 16, encoding, 2),
        RandomTucker(&s, "tucker", 80, 48, 16, 32, encoding, 3),
        RandomTucker3(&s, "tucker3", 5, 16, 48, 16, 16, 32, encoding, 4),
        RandomMpo(&s, "mpo", {4, 5, 4}, {4, 3, 4}, 16, encoding, 5),
    };
    for (const FactoredMatrix& matrix : matrices) ExpectEqualsReference(matrix, checkpoint, s);
  }
}

TEST(DenseWeight, AppliesTransformsOfBothSides) {
  MemoryCheckpoint checkpoint;
  MemorySource& s = checkpoint.source();
  FactoredMatrix m = RandomSvd(&s, "m", 80, 48, 16, kFloat, 7);
  // 48 = 16 x 3 and 80 = 16 x 5: blocks beside the butterflies.
  m.input_transforms = {RandomPermutation(&s, "p", 48, 8), RandomHadamard(&s, "h", 48, false, 9)};
  m.output_transforms = {RandomHadamard(&s, "g", 80, true, 10), RandomPermutation(&s, "q", 80, 11)};
  ExpectEqualsReference(m, checkpoint, s);
  std::swap(m.input_transforms[0], m.input_transforms[1]);
  m.input_transforms[0].transposed = true;
  m.output_transforms[0].transposed = false;
  ExpectEqualsReference(m, checkpoint, s);
}

TEST(DenseWeight, SumsTerms) {
  MemoryCheckpoint checkpoint;
  MemorySource& s = checkpoint.source();
  FactoredMatrix m = RandomDense(&s, "q", 64, 32, kInt4, 12);
  m.terms.push_back(RandomSvd(&s, "lr", 64, 32, 16, kFloat, 13).terms[0]);
  ExpectEqualsReference(m, checkpoint, s);
}

}  // namespace
}  // namespace rankine
