// How a matrix W [m, n] is split into the sites of a matrix product operator, and what each split
// costs. Site k has a part of the outputs and a part of the inputs, m = prod out_k, n = prod in_k,
// the first site slowest; as a tensor W is [out_1 in_1, out_2 in_2, ..], and its cores are
// C_k [x_(k-1), out_k, in_k, x_k].
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/encoding.h"
#include "tools/compress/linalg.h"
#include "tools/compress/methods/budget.h"
#include "tools/compress/tensor64.h"

namespace rankine {

struct MpoSite {
  int64_t out = 1;
  int64_t in = 1;
};
using MpoShape = std::vector<MpoSite>;

// "288x2,2x288": out x in of each site.
std::string Name(const MpoShape& shape);
// kInvalidArgument: another syntax, fewer than 2 sites or more than 4, or sites that do not
// multiply to m x n.
absl::StatusOr<MpoShape> ParseMpoShape(std::string_view text, int64_t m, int64_t n);

// All shapes of so many sites whose every part is at least 2 (with parts of 1 a site is half a
// site: m x 1, 1 x n is the SVD). Empty where m or n has too few prime factors.
std::vector<MpoShape> MpoShapes(int64_t m, int64_t n, int sites);

// The bonds between the sites where none exceeds `bond`. [sites - 1]
std::vector<int64_t> MpoBonds(const MpoShape& shape, int64_t bond);
// The largest bond that the shape can have: with it nothing is dropped.
int64_t LargestBond(const MpoShape& shape);
// Numbers and bits of the cores at those bonds.
int64_t MpoParameters(const MpoShape& shape, int64_t bond);
int64_t MpoBits(const MpoShape& shape, int64_t bond, const Encoding& encoding);
// Multiply-adds for a token when x meets the last core first, the order that the cores are stored
// for.
int64_t MpoOperations(const MpoShape& shape, int64_t bond);

// Bonds must be multiples of it for the engine to use cores in that encoding as they lie: 1 for
// floats. kInvalidArgument: an encoding whose groups are whole rows.
absl::StatusOr<int64_t> BondMultiple(const Encoding& encoding);

// The largest bond within the budget's parameters and bits, a multiple of BondMultiple and of the
// budget's rank_multiple where it is at least that; as floats, with fewer numbers than the matrix.
// An explicit rank is taken as it is. 0: better left dense, as no bond has fewer numbers.
// kInvalidArgument: the budget is below bond 1 (or one group), or an explicit rank outside
// [1, LargestBond].
absl::StatusOr<int64_t> BondWithin(const Budget& budget, const MpoShape& shape,
                                   const Encoding& encoding);

// W as the tensor [out_1 in_1, out_2 in_2, ..], and back. Require w [m, n] of the shape.
Tensor64 ToSites(const Matrix64& w, const MpoShape& shape);
Matrix64 FromSites(const Tensor64& t, const MpoShape& shape);

}  // namespace rankine
