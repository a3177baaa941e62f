// Fisher weights of input features, from a safetensors file that tools/torch writes: gradients
// need PyTorch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/checkpoint/safetensors.h"
#include "models/files/file.h"
#include "tools/compress/linears.h"

namespace rankine {

// Thread-safe.
class FisherFile {
 public:
  // Errors name the file.
  static absl::StatusOr<FisherFile> Open(const std::string& path);

  // f_j = sum_i E[g_ij^2] for the input features j of `linear` [in_features]. Either
  // LINEAR.fisher [in_features], or LINEAR.weight [out_features, in_features], which holds E[g^2]
  // of each weight and is summed over its rows; F32, F16 or BF16. kInvalidArgument: no such tensor,
  // another shape, or a value that is negative or not finite.
  absl::StatusOr<std::vector<double>> Read(const std::string& linear, int64_t out_features,
                                           int64_t in_features) const;

  // Of the whole file, for resuming.
  const std::string& digest() const { return digest_; }

 private:
  FisherFile(std::string path, ReadOnlyFile file)
      : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  ReadOnlyFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::string digest_;
};

// Of several linears by name; absent without a file. Errors as FisherFile::Read.
absl::StatusOr<std::optional<std::map<std::string, std::vector<double>>>> ReadFisher(
    const FisherFile* file, const std::vector<const LinearInfo*>& linears);

}  // namespace rankine
