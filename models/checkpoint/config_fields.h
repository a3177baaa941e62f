// What the architectures share in reading and writing config.json. For .cc files only: it brings in
// the JSON library.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/json.h"
#include "models/config.h"

namespace rankine {

// Far above any published model: what lies beyond is a damaged file, and sizes derived from these
// bounds (vocab x hidden, layers x tensors) fit in int64 and in memory for their description.
inline constexpr int64_t kMaxVocab = int64_t{1} << 24;
inline constexpr int64_t kMaxFeatures = int64_t{1} << 20;
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxPosition = int64_t{1} << 27;

// A member of an object; errors name the file and the key. The fallback is for missing keys and
// nulls.
absl::StatusOr<int64_t> IntOr(const JsonValue& object, const std::string& key, int64_t fallback);
absl::StatusOr<double> NumberOr(const JsonValue& object, const std::string& key, double fallback);
absl::StatusOr<bool> BoolOr(const JsonValue& object, const std::string& key, bool fallback);
absl::StatusOr<std::string> StringOr(const JsonValue& object, const std::string& key,
                                     const std::string& fallback);
absl::StatusOr<int64_t> RequiredInt(const JsonValue& object, const std::string& key);

// Adds the ids of `key` (an id, a list of ids, or nothing) that `ids` lacks.
absl::Status AddTokenIds(const JsonValue& object, const std::string& key, int64_t vocab_size,
                         std::vector<int32_t>* ids);

// kInvalidArgument "source: key: ..." unless 1 <= value <= max.
absl::Status CheckRange(int64_t value, int64_t max, const char* key, const std::string& source);
// kInvalidArgument unless `key`, a string, is `supported` (or missing).
absl::Status CheckOnly(const JsonValue& root, const std::string& key, const char* what,
                       const char* supported);

// What config.json calls a dtype: "bfloat16".
const char* ConfigDTypeName(DType dtype);
void WriteTokenIds(const ModelConfig& config, nlohmann::ordered_json* root);

}  // namespace rankine
