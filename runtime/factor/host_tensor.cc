#include "runtime/factor/host_tensor.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace rankine {
namespace {

// Strides of `tensor` along `legs`; 0 where it has no such leg.
std::vector<int64_t> Strides(const TermLegs& legs, const HostTensor& tensor,
                             const std::vector<int>& along) {
  std::vector<int64_t> of_leg(legs.extents.size(), 0);
  int64_t stride = 1;
  for (auto leg = tensor.legs.rbegin(); leg != tensor.legs.rend(); ++leg) {
    of_leg[*leg] = stride;
    stride *= legs.extents[*leg];
  }
  std::vector<int64_t> result;
  for (const int leg : along) result.push_back(of_leg[leg]);
  return result;
}

// Visits all indices of some legs in order, with the offsets into two tensors that they give.
class Walk {
 public:
  Walk(const TermLegs& legs, const HostTensor& a, const HostTensor& b,
       const std::vector<int>& along)
      : a_(Strides(legs, a, along)), b_(Strides(legs, b, along)) {
    for (const int leg : along) extents_.push_back(legs.extents[leg]);
  }

  int64_t size() const {
    int64_t size = 1;
    for (const int64_t e : extents_) size *= e;
    return size;
  }

  void At(int64_t index, int64_t* a, int64_t* b) const {
    for (size_t i = extents_.size(); i-- > 0;) {
      const int64_t digit = index % extents_[i];
      index /= extents_[i];
      *a += digit * a_[i];
      *b += digit * b_[i];
    }
  }

 private:
  std::vector<int64_t> extents_, a_, b_;
};

// out[j] += a[j * a_stride] * b[j * b_stride]
void MultiplyAdd(const double* a, int64_t a_stride, const double* b, int64_t b_stride,
                 int64_t count, double* out) {
  if (a_stride == 0 && b_stride == 1) {
    for (int64_t j = 0; j < count; ++j) out[j] += *a * b[j];
  } else if (a_stride == 1 && b_stride == 0) {
    for (int64_t j = 0; j < count; ++j) out[j] += a[j] * *b;
  } else {
    for (int64_t j = 0; j < count; ++j) out[j] += a[j * a_stride] * b[j * b_stride];
  }
}

std::vector<int> LegsIn(uint32_t mask, const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> result;
  for (const std::vector<int>* legs : {&a, &b}) {
    for (const int leg : *legs) {
      if ((mask >> leg & 1) != 0 && std::find(result.begin(), result.end(), leg) == result.end())
        result.push_back(leg);
    }
  }
  return result;
}

HostTensor Contract(const TermLegs& legs, HostTensor a, HostTensor b, uint32_t kept) {
  HostTensor result;
  result.legs = LegsIn((MaskOf(a.legs) | MaskOf(b.legs)) & kept, a.legs, b.legs);
  TensorProduct product{.legs = &legs, .a = std::move(a), .b = std::move(b)};
  product.row_legs = result.legs;
  if (!result.legs.empty()) {
    product.row_legs.pop_back();
    product.column_legs = {result.legs.back()};
  }
  result.data.resize(legs.Size(result.legs));
  product.Rows(0, legs.Size(product.row_legs), result.data.data());
  return result;
}

}  // namespace

void TensorProduct::Rows(int64_t begin, int64_t end, double* out) const {
  std::vector<int> outer = column_legs;
  std::vector<int> inner;
  if (!outer.empty()) {
    inner = {outer.back()};
    outer.pop_back();
  }
  const uint32_t all = MaskOf(a.legs) | MaskOf(b.legs);
  const std::vector<int> summed =
      LegsIn(all & ~(MaskOf(row_legs) | MaskOf(column_legs)), a.legs, b.legs);
  const Walk rows(*legs, a, b, row_legs), sums(*legs, a, b, summed), columns(*legs, a, b, outer);
  const int64_t count = legs->Size(inner);
  int64_t a_stride = 0, b_stride = 0;
  if (!inner.empty()) {
    a_stride = Strides(*legs, a, inner)[0];
    b_stride = Strides(*legs, b, inner)[0];
  }
  const int64_t num_sums = sums.size(), num_columns = columns.size();
  std::fill(out, out + (end - begin) * num_columns * count, 0.0);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t s = 0; s < num_sums; ++s) {
      for (int64_t c = 0; c < num_columns; ++c) {
        int64_t at_a = 0, at_b = 0;
        rows.At(row, &at_a, &at_b);
        sums.At(s, &at_a, &at_b);
        columns.At(c, &at_a, &at_b);
        MultiplyAdd(a.data.data() + at_a, a_stride, b.data.data() + at_b, b_stride, count,
                    out + ((row - begin) * num_columns + c) * count);
      }
    }
  }
}

TensorProduct FoldTensors(const TermLegs& legs, std::vector<HostTensor> tensors,
                          std::vector<int> row_legs, std::vector<int> column_legs) {
  RK_CHECK(!tensors.empty());
  while (tensors.size() > 2) {
    size_t best_a = 0, best_b = 1;
    int64_t least = INT64_MAX;
    uint32_t best_kept = 0;
    for (size_t a = 0; a < tensors.size(); ++a) {
      for (size_t b = a + 1; b < tensors.size(); ++b) {
        uint32_t kept = MaskOf(row_legs) | MaskOf(column_legs);
        for (size_t other = 0; other < tensors.size(); ++other) {
          if (other != a && other != b) kept |= MaskOf(tensors[other].legs);
        }
        const int64_t size = legs.Size((MaskOf(tensors[a].legs) | MaskOf(tensors[b].legs)) & kept);
        if (size >= least) continue;
        least = size;
        best_a = a;
        best_b = b;
        best_kept = kept;
      }
    }
    tensors[best_a] =
        Contract(legs, std::move(tensors[best_a]), std::move(tensors[best_b]), best_kept);
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(best_b));
  }
  TensorProduct product{.legs = &legs, .a = std::move(tensors[0])};
  product.b = tensors.size() > 1 ? std::move(tensors[1]) : HostTensor{.data = {1.0}};
  product.row_legs = std::move(row_legs);
  product.column_legs = std::move(column_legs);
  return product;
}

}  // namespace rankine
