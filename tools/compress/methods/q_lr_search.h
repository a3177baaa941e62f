// The alternation of CALDERA (arXiv 2405.18886, algorithm 1) on one matrix.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "tools/compress/ldlq.h"
#include "tools/compress/linalg.h"
#include "tools/compress/low_rank_fit.h"

namespace rankine {

// H as rounding uses it: its factors for encodings that round one column at a time and for E8P,
// whose blocks are 8 wide. Made once for all matrices that read the same input.
struct RoundingMoments {
  const Matrix64* h = nullptr;  // undamped
  double damping = 0;
  LdlFactors columns, codewords;  // the second empty where no encoding is E8P

  const LdlFactors& For(const Encoding& encoding) const {
    return LdlWidth(encoding) == 1 ? columns : codewords;
  }
};

// kInvalidArgument as BlockLdl.
absl::StatusOr<RoundingMoments> MakeRoundingMoments(const Matrix64& h, double damping,
                                                    bool with_codewords);

struct QLrOptions {
  Encoding base, factors;
  int64_t rank = 1;
  int64_t iterations = 1;
  bool ldlq = true;  // of Q
};

struct QLr {
  RoundedMatrix q;
  LowRank factors;
  double squared_error = 0;  // ||(W - Q - L R) H^1/2||_F^2
};

// The best iterate of two searches: one begins with Q = round(W), QERA's solution, the other with
// L R, the best low-rank matrix for W itself, which leaves Q less to hold.
absl::StatusOr<QLr> SearchQLr(const Matrix64& w, const RoundingMoments& moments,
                              const QLrOptions& options);

}  // namespace rankine
