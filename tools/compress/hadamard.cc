#include "tools/compress/hadamard.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/api/hadamard.h"
#include "kernels/base/check.h"

namespace rankine {
namespace {

// Symmetric and orthogonal: cas(a) = cos(a) + sin(a).
std::vector<double> HartleyMatrix(int64_t b) {
  std::vector<double> block(static_cast<size_t>(b * b));
  for (int64_t i = 0; i < b; ++i) {
    for (int64_t j = 0; j < b; ++j) {
      const double angle = 2 * M_PI * static_cast<double>(i * j % b) / static_cast<double>(b);
      const double value = (std::cos(angle) + std::sin(angle)) / std::sqrt(static_cast<double>(b));
      block[i * b + j] = static_cast<float>(value);
    }
  }
  return block;
}

}  // namespace

HadamardTransform::HadamardTransform(std::vector<double> signs, std::vector<double> block,
                                     int64_t block_size)
    : signs_(std::move(signs)), block_(std::move(block)), block_size_(block_size) {
  const int64_t powers = features() / block_size;
  RK_CHECK(powers * block_size == features() && (powers & (powers - 1)) == 0);
  RK_CHECK(static_cast<int64_t>(block_.size()) == block_size * block_size);
}

absl::StatusOr<HadamardTransform> HadamardTransform::Random(int64_t features, uint64_t seed) {
  RK_CHECK(features >= 1);
  int64_t b = features;
  while (b % 2 == 0) b /= 2;
  if (b > kMaxHadamardBlock) {
    return absl::UnimplementedError(absl::StrCat("a Hadamard transform of ", features,
                                                 " features needs an orthogonal block of ", b,
                                                 ", the odd part; at most ", kMaxHadamardBlock,
                                                 " is supported: go without it (--hadamard 0)"));
  }
  std::mt19937_64 random(seed);
  std::vector<double> signs(static_cast<size_t>(features));
  for (double& sign : signs) sign = (random() & 1) != 0 ? 1.0 : -1.0;
  return HadamardTransform(std::move(signs), HartleyMatrix(b), b);
}

// B x, or B^T x, for each run of b.
void HadamardTransform::ApplyBlock(bool inverse, double* x) const {
  const int64_t b = block_size_, n = features();
  std::vector<double> part(static_cast<size_t>(b));
  for (int64_t first = 0; first < n; first += b) {
    for (int64_t i = 0; i < b; ++i) {
      part[i] = 0;
      for (int64_t j = 0; j < b; ++j) {
        part[i] += block_[inverse ? j * b + i : i * b + j] * x[first + j];
      }
    }
    std::copy(part.begin(), part.end(), x + first);
  }
}

// Sylvester's matrix, which is its own transpose, over runs of b.
void HadamardTransform::Butterflies(double* x) const {
  const int64_t n = features();
  for (int64_t half = block_size_; half < n; half *= 2) {
    for (int64_t first = 0; first < n; first += 2 * half) {
      for (int64_t i = first; i < first + half; ++i) {
        const double u = x[i], v = x[i + half];
        x[i] = (u + v) * M_SQRT1_2;
        x[i + half] = (u - v) * M_SQRT1_2;
      }
    }
  }
}

void HadamardTransform::Apply(double* x) const {
  for (int64_t i = 0; i < features(); ++i) x[i] *= signs_[i];
  ApplyBlock(false, x);
  Butterflies(x);
}

void HadamardTransform::ApplyInverse(double* x) const {
  ApplyBlock(true, x);
  Butterflies(x);
  for (int64_t i = 0; i < features(); ++i) x[i] *= signs_[i];
}

void HadamardTransform::TransformInputs(Matrix64* w) const {
  RK_CHECK(w->cols == features());
  for (int64_t i = 0; i < w->rows; ++i) Apply(w->Row(i));
}

void HadamardTransform::TransformOutputs(Matrix64* w) const {
  RK_CHECK(w->rows == features());
  *w = Transposed(*w);
  TransformInputs(w);
  *w = Transposed(*w);
}

void HadamardTransform::TransformMoments(Matrix64* h) const {
  TransformInputs(h);
  TransformOutputs(h);
  for (int64_t i = 0; i < h->rows; ++i) {
    for (int64_t j = 0; j < i; ++j) (*h)(i, j) = (*h)(j, i);
  }
}

Transform HadamardTransform::Store(const std::string& name, bool transposed,
                                   std::vector<StoredTensor>* tensors) const {
  Transform t{.kind = Transform::Kind::kHadamard,
              .tensor = absl::StrCat(name, ".signs"),
              .transposed = transposed};
  auto signs = StoreValues(t.tensor, DType::kI8, {features()}, signs_);
  RK_CHECK(signs.ok());
  tensors->push_back(*std::move(signs));
  if (block_size_ == 1) return t;
  t.block_tensor = absl::StrCat(name, ".block");
  auto block = StoreValues(t.block_tensor, DType::kF32, {block_size_, block_size_}, block_);
  RK_CHECK(block.ok());
  tensors->push_back(*std::move(block));
  return t;
}

}  // namespace rankine
