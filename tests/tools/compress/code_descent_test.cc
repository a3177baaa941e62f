#include "tools/compress/code_descent.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/block_rounder.h"

namespace rankine {
namespace {

using testing::MixedMoments;
using testing::NormalMatrix;

constexpr int64_t kColumns = 64;
constexpr const char* kEncodings[] = {"int3:row", "int2:g32",          "int4:g64:offset",
                                      "nf4:g16",  "int4:g32:k:offset", "e8p"};

struct Case {
  explicit Case(const std::string& name) : encoding(*ParseEncoding(name)) {
    ldl = *BlockLdl(h, LdlWidth(encoding), 0);
    q = *RoundMatrix(w, {.encoding = encoding, .ldl = &ldl});
  }

  double Error() const { return SquaredWeightedNorm(Difference(w, q.values), h); }

  Encoding encoding;
  Matrix64 w = NormalMatrix(6, kColumns, 1);
  Matrix64 h = MixedMoments(kColumns, 3 * kColumns, 2).second;
  LdlFactors ldl;
  RoundedMatrix q;
};

TEST(CodeDescentTest, EveryPassLowersTheErrorOfLdlq) {
  for (const char* name : kEncodings) {
    SCOPED_TRACE(name);
    Case c(name);
    const double rounded = c.Error();
    double before = rounded;
    for (int pass = 0; pass < 3; ++pass) {
      DescendCodes(c.w, c.h, 1, c.encoding, &c.q);
      EXPECT_LE(c.Error(), before * (1 + 1e-9));
      before = c.Error();
    }
    EXPECT_LT(before, rounded);
    EXPECT_EQ(Decoded(c.q.codes).values, c.q.values.values) << "codes are what they stand for";
  }
}

TEST(CodeDescentTest, PassesOneByOneAreAsAllAtOnce) {
  for (const char* name : kEncodings) {
    Case once(name), apart(name);
    DescendCodes(once.w, once.h, 3, once.encoding, &once.q);
    for (int pass = 0; pass < 3; ++pass)
      DescendCodes(apart.w, apart.h, 1, apart.encoding, &apart.q);
    EXPECT_LT(testing::RelativeDistance(once.q.values, apart.q.values), 1e-12) << name;
  }
}

// Where it ends by itself, no other code of any one column is better.
TEST(CodeDescentTest, EndsWhereNoSingleCodeHelps) {
  for (const char* name : {"int3:row", "int2:g32", "nf4:g16"}) {
    SCOPED_TRACE(name);
    Case c(name);
    DescendCodes(c.w, c.h, 1000, c.encoding, &c.q);
    const double error = c.Error();
    const int codes = c.encoding.kind == EncodingKind::kNf4 ? 16 : 1 << c.encoding.bits;
    for (size_t at = 0; at < c.q.codes.codes.size(); ++at) {
      for (int code = 0; code < codes; ++code) {
        BlockRowsBuffer other = c.q.codes;
        other.codes[at] = static_cast<uint8_t>(code);
        const Matrix64 difference = Difference(c.w, Decoded(other));
        EXPECT_GE(SquaredWeightedNorm(difference, c.h), error * (1 - 1e-6)) << at << " " << code;
      }
    }
  }
}

TEST(CodeDescentTest, NoPassesChangeNothing) {
  Case c("int3:row");
  const BlockRowsBuffer codes = c.q.codes;
  DescendCodes(c.w, c.h, 0, c.encoding, &c.q);
  EXPECT_EQ(c.q.codes.codes, codes.codes);
}

}  // namespace
}  // namespace rankine
