// The fixture of tests that factorise a tiny model from its folder to another.
#pragma once

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"

namespace rankine {

class FactorizeTest : public ::testing::Test {
 protected:
  FactorizeTest() {
    testing::WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    testing::WriteWholeFile(text_, testing::TinyText(4000));
  }

  FactorizeOptions Options(const std::string& method) const {
    FactorizeOptions o{.method = method, .keep = 0.6};
    if (method != "svd") o.calibration_files = {text_};
    o.calibration_windows = 20;
    o.window = 64;
    o.threads = 2;
    return o;
  }

  std::string Error(const FactorizeOptions& options) const {
    const auto report = Factorize(model_, temp_ / "error", options);
    EXPECT_FALSE(report.ok());
    EXPECT_FALSE(std::filesystem::exists(temp_ / "error"));
    return std::string(report.status().message());
  }

  const testing::TempFolder temp_;
  const std::string model_ = temp_ / "model";
  const std::string text_ = temp_ / "calibration.txt";
};

}  // namespace rankine
