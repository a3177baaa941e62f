// What a FactoredMatrix means, by its legs alone and in float64: the oracle of plans. It knows
// nothing of orders or layouts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/factor/factored_matrix.h"
#include "tests/testing/memory_source.h"

namespace rankine {

// A core of the values at tensor `name`, with random numbers in `source`: floats exact in bf16, or
// blocks. Legs as stored.
Core RandomCore(MemorySource* source, const std::string& tensor, const std::string& name,
                std::vector<LegRange> legs, const Encoding& encoding, uint32_t seed);

// The matrices of the table of docs/factorization.md, with random cores in `source`; encodings of
// all cores as given.
FactoredMatrix RandomDense(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                           const Encoding& encoding, uint32_t seed);
FactoredMatrix RandomSvd(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                         int64_t rank, const Encoding& encoding, uint32_t seed);
// C[o,r] P[r,i], C with a leading identity, and an output permutation.
FactoredMatrix RandomPivoted(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                             int64_t rank, const Encoding& encoding, uint32_t seed);
// A[o,a] G[a,b] B[b,i].
FactoredMatrix RandomTucker(MemorySource* source, const std::string& name, int64_t out, int64_t in,
                            int64_t a, int64_t b, const Encoding& encoding, uint32_t seed);
// A[o1,a] B[o2,b] C[i,c] G[a,b,c].
FactoredMatrix RandomTucker3(MemorySource* source, const std::string& name, int64_t o1, int64_t o2,
                             int64_t in, int64_t a, int64_t b, int64_t c, const Encoding& encoding,
                             uint32_t seed);
// C1[o1,i1,x] C2[x,o2,i2,y] ...
FactoredMatrix RandomMpo(MemorySource* source, const std::string& name,
                         const std::vector<int64_t>& out_sites,
                         const std::vector<int64_t>& in_sites, int64_t bond,
                         const Encoding& encoding, uint32_t seed);
void AddRandomBias(MemorySource* source, FactoredMatrix* matrix, uint32_t seed);
// Appended to the input's or the output's transforms.
Transform RandomHadamard(MemorySource* source, const std::string& name, int64_t features,
                         bool transposed, uint32_t seed);
Transform RandomPermutation(MemorySource* source, const std::string& name, int64_t features,
                            uint32_t seed);

// y = W x + bias for each row of x [rows, in_features]: [rows, out_features]. `magnitude` (may be
// null): the same sums over absolute values of cores, x and transforms, which rounding errors scale
// with. `rank` > 0: of the sorted leg only the first slices.
std::vector<double> ReferenceOutput(const FactoredMatrix& matrix, const MemorySource& source,
                                    const std::vector<float>& x, int64_t rows,
                                    std::vector<double>* magnitude, int64_t rank = 0);

}  // namespace rankine
