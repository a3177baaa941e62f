// The one host-side description of every linear layer: a sum of terms, each a small tensor network
// of cores with named legs. It holds no weights: cores name the tensors that carry their numbers.
// The same language is what factorization.json stores (docs/factorization.md); the planner turns it
// into steps.
//
//   dense        W[o,i]
//   SVD family   U[o,r] S[r] V[r,i]            (a leg may be shared by more than two cores)
//   Tucker       A[o,a] G[a,b] B[b,i]
//   MPO          C1[o1,i1,x] C2[x,o2,i2,y] C3[y,o3,i3]
//   Q + L R      two terms: Q[o,i] and L[o,r] R[r,i]
//   pivoted      C[o,r] P[r,i], C with a leading identity, and an output permutation
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/encoding.h"

namespace rankine {

// One leg of a core as stored: the core covers [offset, offset + extent) of the leg called `name`.
// offset is not 0 only where a core is shared by several matrices, each taking a range of it.
struct LegRange {
  std::string name;
  int64_t offset = 0;
  int64_t extent = 0;
  // Of the leg in the stored tensor, where that is more than this matrix takes; 0 = extent.
  int64_t stored_extent = 0;
};

// A tensor that carries a part of a core's numbers, by role: "values" for float encodings;
// "codes", "scales", "offsets", "super_scales", "super_offsets" for block families.
struct CoreTensor {
  std::string role;
  std::string tensor;
};

struct Core {
  std::string name;            // unique within its term: "U", "S", "V"
  std::vector<LegRange> legs;  // in storage order, slowest first
  Encoding encoding;
  std::vector<CoreTensor> tensors;
  // Of a core of two legs: the first slices of the first leg are the identity over the second and
  // are not stored; the tensors hold the rows that follow.
  bool leading_identity = false;

  int64_t identity_rows() const {
    return leading_identity && legs.size() == 2 ? legs[1].extent : 0;
  }
  // Extents of the tensor: those of the legs as stored, without the identity.
  std::vector<int64_t> StoredShape() const;
  // Numbers that the matrix takes of it, the identity not among them.
  int64_t NumParameters() const;

  // The tensor of that role; empty when the core has none.
  const std::string& TensorOf(const std::string& role) const;
};

struct Term {
  std::vector<Core> cores;
};

// Legs of the matrix itself: output_legs multiply (slowest first) to out_features, input_legs to
// in_features.
struct OuterLeg {
  std::string name;
  int64_t extent = 0;
};

// A change of basis on one side of the matrix, applied to activations at run time.
struct Transform {
  enum class Kind : uint8_t { kPermutation, kHadamard };
  Kind kind = Kind::kPermutation;
  // kPermutation: an i32 tensor [features], y[k] = x[indices[k]]. kHadamard: signs, [features] of
  // +1 or -1.
  std::string tensor;
  // kHadamard where features is not a power of two: an orthogonal block [b, b], features = 2^p x b.
  std::string block_tensor;
  // kHadamard: the inverse (HadamardArgs of kernels/api/hadamard.h).
  bool transposed = false;
};

// Who made the factors, from what, and what it cost.
struct Provenance {
  std::string method;       // "svd", "svd-llm"
  double keep = 0;          // share of parameters kept; 0 = not recorded
  std::string calibration;  // digest of the calibration tokens; empty = none
  int64_t calibration_tokens = 0;
  double relative_error = -1;  // ||W - W'||_F / ||W||_F; negative = not recorded
  double weighted_error = -1;  // sqrt(E||y - y'||^2 / E||y||^2); negative = not recorded
  // Of a pivoted form: its error relative to the product of the factors it was made from, which the
  // figures above are of; negative = not recorded.
  double pivot_error = -1;
};

struct FactoredMatrix {
  std::string name;  // of the linear layer: "model.layers.0.self_attn.q_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::vector<OuterLeg> output_legs;
  std::vector<OuterLeg> input_legs;
  std::vector<Term> terms;
  std::string bias_tensor;  // [out_features]; empty = no bias
  std::vector<Transform> input_transforms;
  std::vector<Transform> output_transforms;
  // A bond leg whose slices fall in importance, so that a prefix is a valid cheaper matrix; empty =
  // none.
  std::string sorted_leg;
  Provenance provenance;

  // Numbers stored in the cores and the bias.
  int64_t NumParameters() const;
};

// W[o,i] in one tensor. `encoding` is that of the tensor.
FactoredMatrix DenseMatrix(std::string name, int64_t out_features, int64_t in_features,
                           Encoding encoding, std::string tensor, std::string bias_tensor = "");

// U[o,r] S[r] V[r,i], tensors `name`.U, .S, .V; S is f32, U and V have `encoding`; sorted leg r.
FactoredMatrix SvdMatrix(std::string name, int64_t out_features, int64_t in_features, int64_t rank,
                         Encoding encoding, std::string bias_tensor = "");

// True when the matrix is one dense core without transforms.
bool IsDense(const FactoredMatrix& matrix);

}  // namespace rankine
