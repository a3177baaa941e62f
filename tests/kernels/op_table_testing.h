// What tests of every op table share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/op_table.h"

namespace rankine {

// GoogleTest takes letters, digits and underscores.
inline std::string TestName(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// The last argument of INSTANTIATE_TEST_SUITE_P over op tables.
inline std::string OpTableName(const ::testing::TestParamInfo<const OpTable*>& info) {
  return TestName(info.param->name);
}

inline std::vector<float> NormalValues(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(rng);
  return values;
}

}  // namespace rankine
