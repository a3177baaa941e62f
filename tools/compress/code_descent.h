// Coordinate descent over the codes of a rounded matrix (the greedy updates of QuIP, arXiv
// 2307.13304, appendix): with E = W - Q and all other columns fixed, the block E_k of one codeword
// has its least tr(E H E^T) at Q_k + (E H)_k H_kk^-1; the codeword nearest to that is taken
// wherever it lowers the error. A pass visits every column once, so no pass raises the error.
#pragma once

#include <cstdint>

#include "kernels/base/encoding.h"
#include "tools/compress/ldlq.h"
#include "tools/compress/linalg.h"

namespace rankine {

// Up to `passes` over `q`, w [m, n] rounded to `encoding`, of blocks; scales stay. Ends early when
// a pass changes nothing. h [n, n] has positive definite diagonal blocks of LdlWidth(encoding).
void DescendCodes(const Matrix64& w, const Matrix64& h, int64_t passes, const Encoding& encoding,
                  RoundedMatrix* q);

}  // namespace rankine
