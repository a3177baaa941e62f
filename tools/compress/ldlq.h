// LDLQ (QuIP, arXiv 2307.13304; block form in QuIP#, arXiv 2402.04396): rounding that minimises the
// error of a layer's outputs greedily. With H = (M + I) D (M + I)^T, M strictly (block) upper
// triangular, columns are rounded one after another, each corrected by what those before have lost:
//
//   Q_k = round(W_k + (W - Q)_{<k} M_{<k,k}),
//
// so that with e_k = the rounding errors alone, tr((W - Q) H (W - Q)^T) = sum_k tr(e_k D_k e_k^T).
// GPTQ (arXiv 2210.17323) is the same with another factorisation. Nothing is inverted but D's
// triangular blocks.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "runtime/factor/tensor_source.h"
#include "tools/compress/linalg.h"

namespace rankine {

struct LdlFactors {
  int64_t width = 1;  // of the blocks
  Matrix64 feedback;  // M [n, n]
};

// Of H + damping mean(diag H) I, which a singular H needs; damping 0 adds nothing.
// kInvalidArgument: H is not finite, zero, or not positive definite after damping.
absl::StatusOr<LdlFactors> BlockLdl(const Matrix64& h, int64_t width, double damping);

struct RoundedMatrix {
  Matrix64 values;        // as stored
  BlockRowsBuffer codes;  // of block encodings; else empty
};

struct RoundOptions {
  Encoding encoding;
  // Null: each column is rounded to the nearest. Else of the encoding's width (LdlWidth).
  const LdlFactors* ldl = nullptr;
};

// 8 for E8P, else 1.
int64_t LdlWidth(const Encoding& encoding);

// w [m, n] in any encoding. Scales of a group are fitted when it is reached, to what is wanted
// then. kInvalidArgument: values that are not finite or do not fit, rows that the encoding cannot
// have.
absl::StatusOr<RoundedMatrix> RoundMatrix(const Matrix64& w, const RoundOptions& options);

}  // namespace rankine
