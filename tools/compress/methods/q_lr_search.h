// The alternation of CALDERA (arXiv 2405.18886, algorithm 1) on one matrix, with another H for Q.
//
// L is fitted after Q, so Q need not care for what L can still take up: with R fixed,
//
//   min over L of ||(W - Q - L R) H^1/2||_F = ||(W - Q) G^1/2||_F,  G = H - H R^T (R H R^T)^+ R H,
//
// the moments of what R x leaves unexplained of x. Q is LDLQ of W - L R under G, then coordinate
// descent over its codes (code_descent.h). The best iterate is polished: descent under H itself
// with L R as it is stored, and L R fitted anew.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "tools/compress/ldlq.h"
#include "tools/compress/linalg.h"
#include "tools/compress/low_rank_fit.h"

namespace rankine {

struct QLrOptions {
  Encoding base, factors;
  int64_t rank = 1;
  int64_t iterations = 1;
  bool ldlq = true;      // of Q; false: Q is rounded to the nearest, without regard to H
  int64_t passes = 10;   // of descent over Q's codes, each time; with ldlq only
  double damping = 0.1;  // share of G's mean diagonal that is added to it
  // Of H, of width LdlWidth(factors), for R in blocks; null: R is rounded to the nearest.
  const LdlFactors* factors_ldl = nullptr;
};

struct QLr {
  RoundedMatrix q;
  LowRank factors;
  double squared_error = 0;  // ||(W - Q - L R) H^1/2||_F^2
};

// The best iterate of two searches: one begins with Q = round(W), QERA's solution, the other with
// L R, the best low-rank matrix for W itself, which leaves Q less to hold. kInvalidArgument: as
// BlockLdl, FitLowRank and RoundMatrix.
absl::StatusOr<QLr> SearchQLr(const Matrix64& w, const Matrix64& h, const QLrOptions& options);

}  // namespace rankine
