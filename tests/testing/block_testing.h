// Random block-encoded matrices for tests.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/api/packed_core.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Every affine encoding (bits x group x scales x offsets), and nf4.
std::vector<Encoding> AllBlockEncodings();

std::string ToString(const Encoding& encoding);

// Random codes, scales and offsets, so that values are about standard normal.
BlockRowsBuffer RandomBlockRows(const Encoding& encoding, int64_t rows, int64_t cols,
                                std::mt19937& rng);

// The same packed by the reference, with memory of its own.
struct TestBlockCore {
  TestBlockCore(const BlockRowsBuffer& rows);

  std::vector<char> storage;
  PackedCore core;
};

}  // namespace rankine
