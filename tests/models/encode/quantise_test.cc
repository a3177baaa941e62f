#include "models/encode/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "models/encode/encoding_name.h"
#include "tests/models/encode/encode_testing.h"

namespace rankine {
namespace {

using testing::AllBlockEncodings;
using ::testing::HasSubstr;

std::vector<float> Normal(int64_t count, float mean, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

BlockRowsBuffer MustEncode(const std::vector<float>& values, int64_t cols,
                           const Encoding& encoding) {
  BlockRowsBuffer out;
  const absl::Status status =
      EncodeRows(values.data(), static_cast<int64_t>(values.size()) / cols, cols, encoding, &out);
  EXPECT_TRUE(status.ok()) << EncodingName(encoding) << ": " << status;
  return out;
}

double SquaredError(const std::vector<float>& values, const BlockRowsBuffer& rows) {
  double error = 0;
  std::vector<float> decoded(rows.cols);
  for (int64_t r = 0; r < rows.rows; ++r) {
    DecodeBlockRow(rows.view(), r, decoded.data());
    for (int64_t c = 0; c < rows.cols; ++c) {
      const double difference = static_cast<double>(values[r * rows.cols + c]) - decoded[c];
      error += difference * difference;
    }
  }
  return error;
}

// The scale and offset of a group, as decoders see them.
struct GroupNumbers {
  float scale = 0, offset = 0;
};
GroupNumbers NumbersOf(const BlockRows& rows, int64_t row, int64_t group) {
  const int64_t g = row * rows.groups() + group;
  const int64_t super =
      row * rows.supers() + group * rows.encoding.GroupColumns(rows.cols) / kSuperBlockColumns;
  GroupNumbers numbers{.scale = rows.scale_codes == nullptr
                                    ? rows.scales[g]
                                    : rows.scales[super] * static_cast<float>(rows.scale_codes[g])};
  if (rows.offsets != nullptr) {
    numbers.offset = rows.offset_codes == nullptr
                         ? rows.offsets[g]
                         : rows.offsets[super] * static_cast<float>(rows.offset_codes[g]);
  }
  return numbers;
}

// Within the range of the codes the nearest code is at most half a scale away; beyond it the last
// code is taken. True of the stored, rounded scales.
void ExpectNearestCodes(const std::vector<float>& values, const BlockRowsBuffer& buffer) {
  const BlockRows rows = buffer.view();
  const Encoding& e = rows.encoding;
  std::vector<float> decoded(rows.cols);
  for (int64_t r = 0; r < rows.rows; ++r) {
    DecodeBlockRow(rows, r, decoded.data());
    for (int64_t c = 0; c < rows.cols; ++c) {
      const GroupNumbers g = NumbersOf(rows, r, c / e.GroupColumns(rows.cols));
      const float x = values[r * rows.cols + c];
      float half_gap, low, high;
      if (e.kind == EncodingKind::kNf4) {
        low = -std::abs(g.scale);
        high = std::abs(g.scale);
        half_gap = 0.5f * 0.3039f * high;  // the widest gap: -1 to -0.6962
      } else {
        const float a = g.offset - g.scale * static_cast<float>(e.ZeroCode());
        const float b = a + g.scale * static_cast<float>((1 << e.bits) - 1);
        low = std::min(a, b);
        high = std::max(a, b);
        half_gap = 0.5f * std::abs(g.scale);
      }
      // A few roundings in f32 of numbers of the size of x and the ends of the range.
      const float slack = 4e-7f * (std::abs(x) + std::abs(low) + std::abs(high));
      const float nearest = std::clamp(x, low, high);
      ASSERT_LE(std::abs(decoded[c] - nearest), half_gap + slack)
          << EncodingName(e) << " row " << r << " column " << c << ": " << x << " became "
          << decoded[c] << ", scale " << g.scale << ", offset " << g.offset;
    }
  }
}

// E8P has no codes for single weights: e8p_rows_test.cc.
bool CanEncode(const Encoding& encoding) { return encoding.kind != EncodingKind::kE8P; }

TEST(EncodeRows, TakesTheNearestCodeInEveryEncoding) {
  for (const Encoding& encoding : AllBlockEncodings()) {
    if (!CanEncode(encoding)) continue;
    for (const int64_t cols : {int64_t{1}, int64_t{100}, int64_t{576}}) {
      ExpectNearestCodes(Normal(4 * cols, 0, 0.05f, 1),
                         MustEncode(Normal(4 * cols, 0, 0.05f, 1), cols, encoding));
    }
    // Far from zero on either side, where offsets are of use.
    for (const float mean : {0.5f, -0.5f}) {
      const std::vector<float> values = Normal(2 * 300, mean, 0.01f, 2);
      ExpectNearestCodes(values, MustEncode(values, 300, encoding));
    }
  }
}

// Every number that is stored survives its stored type: StoreRole checks it.
TEST(EncodeRows, StoresNumbersAsRounded) {
  for (const Encoding& encoding : AllBlockEncodings()) {
    if (!CanEncode(encoding)) continue;
    const std::vector<float> values = Normal(3 * 400, 0.01f, 0.05f, 3);
    const BlockRowsBuffer rows = MustEncode(values, 400, encoding);
    BlockRowsBuffer loaded;
    ResizeBlockRows(encoding, 3, 400, &loaded);
    for (const BlockRole& role : BlockRoles(encoding, 400)) {
      const std::vector<uint8_t> stored = StoreRole(rows.view(), role);
      ASSERT_TRUE(LoadRole(stored.data(), role, 0, &loaded).ok());
    }
    EXPECT_EQ(SquaredError(values, loaded), SquaredError(values, rows)) << EncodingName(encoding);
  }
}

// Against plain rounding: the scale that covers the greatest magnitude, symmetric codes.
TEST(EncodeRows, IsNoWorseThanPlainRoundingAndBetterWithFewBits) {
  constexpr int64_t kCols = 1024, kRows = 16, kGroup = 64;
  const std::vector<float> values = Normal(kRows * kCols, 0, 0.05f, 4);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    double plain = 0;
    for (int64_t g = 0; g < kRows * kCols / kGroup; ++g) {
      const float* x = values.data() + g * kGroup;
      float greatest = 0;
      for (int64_t i = 0; i < kGroup; ++i) greatest = std::max(greatest, std::abs(x[i]));
      const float top = static_cast<float>((1 << (bits - 1)) - 1);
      const float scale = greatest / top;
      for (int64_t i = 0; i < kGroup; ++i) {
        const double e = x[i] - scale * std::nearbyint(x[i] / scale);
        plain += e * e;
      }
    }
    const Encoding encoding{
        .kind = EncodingKind::kAffine, .bits = static_cast<uint8_t>(bits), .group = kGroup};
    const double error = SquaredError(values, MustEncode(values, kCols, encoding));
    EXPECT_LT(error, plain) << bits;
    if (bits <= 4) {
      EXPECT_LT(error, 0.8 * plain) << bits;
    }
  }
}

TEST(EncodeRows, OffsetsHelpWhereWeightsLieOffZero) {
  const std::vector<float> values = Normal(8 * 512, 0.3f, 0.02f, 5);
  const auto error = [&](const char* name) {
    return SquaredError(values, MustEncode(values, 512, *ParseEncoding(name)));
  };
  EXPECT_LT(error("int4:g32:offset"), 0.05 * error("int4:g32"));
  EXPECT_LT(error("int4:g32:f32:offset"), 1.01 * error("int4:g32:offset"));
}

// What lies on a grid already is reproduced: re-encoding costs nothing.
TEST(EncodeRows, EncodingWhatWasEncodedChangesNothing) {
  for (const char* name : {"int4:g32", "int4:g32:offset", "int8:g64", "int3:g64:f32", "nf4:g64",
                           "int2:g16", "int6:g128:offset"}) {
    const Encoding encoding = *ParseEncoding(name);
    const BlockRowsBuffer first = MustEncode(Normal(4 * 256, 0, 0.05f, 6), 256, encoding);
    std::vector<float> decoded(4 * 256);
    for (int64_t r = 0; r < 4; ++r) DecodeBlockRow(first.view(), r, decoded.data() + r * 256);
    const BlockRowsBuffer second = MustEncode(decoded, 256, encoding);
    double energy = 0;
    for (const float v : decoded) energy += static_cast<double>(v) * v;
    EXPECT_LT(SquaredError(decoded, second), 1e-6 * energy) << name;
  }
}

TEST(EncodeRows, ZerosConstantsAndTinyWeights) {
  for (const Encoding& encoding : AllBlockEncodings()) {
    if (!CanEncode(encoding)) continue;
    const std::string name = EncodingName(encoding);
    EXPECT_EQ(
        SquaredError(std::vector<float>(300), MustEncode(std::vector<float>(300), 300, encoding)),
        0)
        << name;
    // Scales far below the smallest f16 (with codes of 1/128 of the weights) must not vanish.
    const std::vector<float> tiny = Normal(300, 0, 1e-6f, 7);
    ExpectNearestCodes(tiny, MustEncode(tiny, 300, encoding));
    for (const float constant : {0.37f, -0.37f}) {
      const std::vector<float> same(64, constant);
      ExpectNearestCodes(same, MustEncode(same, 64, encoding));
    }
  }
}

TEST(EncodeRows, ErrorsNameRowAndGroup) {
  const Encoding half = *ParseEncoding("int4:g32"), full = *ParseEncoding("int4:g32:f32");
  std::vector<float> values = Normal(4 * 96, 0, 1, 8);
  BlockRowsBuffer out;
  values[2 * 96 + 40] = 1e7f;
  absl::Status status = EncodeRows(values.data(), 4, 96, half, &out);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 2: the scale of group 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(":f32"));
  EXPECT_TRUE(EncodeRows(values.data(), 4, 96, full, &out).ok());
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf(""), 3e38f}) {
    values[2 * 96 + 40] = bad;
    status = EncodeRows(values.data(), 4, 96, full, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at row 2, column 40"));
  }
  values[2 * 96 + 40] = 1e7f;
  for (const char* name : {"int4:g32:offset", "int2:g32:k", "int2:g32:k:offset", "int2:g32:k8"}) {
    values[2 * 96 + 40] = 5e8f;
    status = EncodeRows(values.data(), 4, 96, *ParseEncoding(name), &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

}  // namespace
}  // namespace rankine
