// Converting and reading what was written, for tests of ConvertModel.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/checkpoint/convert.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/encode/quantise.h"

namespace rankine::testing {

inline std::unique_ptr<Checkpoint> MustOpen(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

inline EncodingTarget Target(const std::string& name) { return ParseEncodingTarget(name).value(); }

inline EncodingRule Rule(const std::string& expression, const std::string& encoding) {
  return MakeEncodingRule(expression, encoding, "test").value();
}

inline ConvertReport MustConvert(const std::string& from, const std::string& to,
                                 const ConvertOptions& options) {
  const auto source = MustOpen(from);
  auto report = ConvertModel(*source, to, options);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.ok() ? *std::move(report) : ConvertReport{};
}

inline std::vector<float> ReadAll(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* tensor = checkpoint.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  const int64_t rows = tensor->shape.size() <= 1 ? 1 : tensor->shape[0];
  std::vector<float> values(static_cast<size_t>(rows * tensor->shape.back()));
  EXPECT_TRUE(checkpoint.ReadRows(*tensor, 0, rows, DType::kF32, values.data()).ok());
  return values;
}

inline const FactoredMatrix* FindMatrix(const Checkpoint& checkpoint, const std::string& name) {
  for (const FactoredMatrix& matrix : checkpoint.factored()) {
    if (matrix.name == name) return &matrix;
  }
  return nullptr;
}

// A two-legged block-encoded core, decoded.
inline std::vector<float> Decode(const Checkpoint& checkpoint, const Core& core) {
  const int64_t rows = core.legs[0].extent, cols = core.legs[1].extent;
  BlockRowsBuffer buffer;
  const absl::Status status = checkpoint.ReadBlockRows(core, 0, rows, cols, &buffer);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  if (!status.ok()) return values;
  for (int64_t r = 0; r < rows; ++r) DecodeBlockRow(buffer.view(), r, values.data() + r * cols);
  return values;
}

// What EncodeRows alone makes of a matrix.
inline std::vector<float> Rounded(const std::vector<float>& values, int64_t cols,
                                  const Encoding& encoding) {
  BlockRowsBuffer buffer;
  const int64_t rows = static_cast<int64_t>(values.size()) / cols;
  EXPECT_TRUE(EncodeRows(values.data(), rows, cols, encoding, &buffer).ok());
  std::vector<float> out(values.size());
  for (int64_t r = 0; r < rows; ++r) DecodeBlockRow(buffer.view(), r, out.data() + r * cols);
  return out;
}

// The folder again with its tensors changed by `edit` and others added.
inline void Rewrite(const std::string& from, const std::string& to,
                    const std::vector<std::pair<TensorSpec, std::string>>& more,
                    const std::function<void(const std::string& name, std::string* bytes)>& edit) {
  const auto source = MustOpen(from);
  std::vector<TensorSpec> specs;
  for (const TensorInfo& tensor : source->tensors()) {
    specs.push_back({tensor.name, tensor.natural_dtype, tensor.shape});
  }
  for (const auto& [spec, bytes] : more) specs.push_back(spec);
  std::filesystem::copy(from, to);
  std::filesystem::remove(to + "/model.safetensors");
  auto writer = SafetensorsWriter::Create(to, specs);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const TensorInfo& tensor : source->tensors()) {
    std::string bytes(static_cast<size_t>(tensor.stored_bytes), '\0');
    ASSERT_TRUE(source->ReadRaw(tensor, 0, tensor.stored_bytes, bytes.data()).ok());
    edit(tensor.name, &bytes);
    ASSERT_TRUE(writer->Append(tensor.name, bytes.data(), bytes.size()).ok());
  }
  for (const auto& [spec, bytes] : more) {
    ASSERT_TRUE(writer->Append(spec.name, bytes.data(), bytes.size()).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

}  // namespace rankine::testing
