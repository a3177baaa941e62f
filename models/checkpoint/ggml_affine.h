// The block types of GGML are members of the affine block family (kernels/base/encoding.h): the
// same numbers, exactly, in another order.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/base/encoding.h"
#include "models/checkpoint/block_formats.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Q8_0 = 8 bits, groups of 32, f16 scales; Q4_0 and Q5_0 likewise; Q4_1 and Q5_1 with offsets per
// group; Q2_K, Q4_K and Q5_K with scales and offsets of two levels; Q3_K and Q6_K with signed
// two-level scales. Empty for F32, F16 and BF16.
std::optional<Encoding> AffineEncoding(GgmlType type);

// Takes the blocks of one row apart into row `row` of `out`, which ResizeBlockRows has laid out for
// AffineEncoding(type) and rows of whole blocks. DecodeBlockRow then gives bit for bit what
// DecodeBlocks gives (of zeros perhaps another sign). Scales may be NaN or infinite when the file's
// are.
void SplitBlocks(GgmlType type, const uint8_t* blocks, int64_t row, BlockRowsBuffer* out);

}  // namespace rankine
