// Scale and offset for one group of weights, by least squares: the search behind EncodeRows.
//
// For each of a few trial scales around the one that just covers the group, every weight goes to
// its nearest code; the scale (and offset) that fit those codes best follow in closed form, and so
// does what remains of the squared error. The best trial's are rounded as they will be stored, and
// the codes chosen again; twice, since new codes have a new best fit. The covering scale itself
// stays unless the error is smaller, so no group comes out worse than by plain rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/encoding.h"

namespace rankine {

struct GroupFit {
  float scale = 0;
  float offset = 0;
};

// Fits groups of one encoding (kAffine or kNf4), one after the other. Two-level scales and offsets
// come out unrounded, with the signs that their codes can express: scales >= 0 where those are
// unsigned, offsets <= 0.
class GroupFitter {
 public:
  explicit GroupFitter(const Encoding& encoding);

  // The weights of the next group; all finite, n >= 1.
  void Load(const float* weights, int64_t n);
  // Infinite when the covering scale or offset does not fit in its type.
  GroupFit Fit() const;
  // Nearest codes under a fit that is given: codes[0, n). Returns the squared error.
  double Encode(const GroupFit& fit, uint8_t* codes) const;

 private:
  // Of the levels q that the weights x go to under a fit: what least squares needs.
  struct Sums {
    float q = 0, qq = 0, xq = 0;
  };

  float RoundScale(float scale) const;
  float RoundOffset(float offset) const;
  Sums SumsOf(const GroupFit& fit) const;
  float Error(const GroupFit& fit) const;
  void Try(const GroupFit& fit, GroupFit* best, float* best_error) const;
  GroupFit FitScale() const;
  GroupFit FitScaleAndOffset() const;
  // What least squares takes off the squared error, given the codes; and the fit that does.
  float Gain(const Sums& sums) const;
  GroupFit BestFit(const Sums& sums) const;
  GroupFit Search(const GroupFit& covering) const;

  Encoding encoding_;
  bool has_offsets_;
  float low_ = 0, high_ = 0;  // of the levels that codes stand for
  int trials_ = 0;            // on either side of the covering scale
  float step_ = 0;            // relative, between trials
  int64_t n_ = 0;
  float min_ = 0, max_ = 0;
  float sum_ = 0;         // of x_
  std::vector<float> x_;  // less min_ where there are offsets; whole vectors, zero beyond n
};

}  // namespace rankine
