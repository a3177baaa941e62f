// The key-value metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// Types of values, with the numbers that the file uses.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of one value in the file; 0 for strings, arrays and unknown types.
int64_t GgufTypeSize(GgufType type);

// A number or bool, or an array of them, as its bytes in the file: metadata never takes much more
// memory than the file, whatever the file claims.
struct GgufNumbers {
  GgufType type = GgufType::kUint8;
  bool is_array = false;
  std::vector<uint8_t> bytes;

  int64_t size() const;
  // Requires 0 <= i < size(). Empty when the value is no integer or does not fit in int64.
  std::optional<int64_t> Int(int64_t i) const;
  // Empty for a bool. Integers are converted.
  std::optional<double> Number(int64_t i) const;
};

using GgufValue = std::variant<GgufNumbers, std::string, std::vector<std::string>>;

// Immutable once filled. Getters return an empty optional (or null) when the key is absent and
// kInvalidArgument that names the key when its value has another type.
class GgufMetadata {
 public:
  // False when the key is there already.
  bool Insert(std::string key, GgufValue value);

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  absl::StatusOr<std::optional<int64_t>> Int(std::string_view key) const;
  absl::StatusOr<std::optional<double>> Number(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string>> String(std::string_view key) const;
  // An array of integers, or one integer as an array of one.
  absl::StatusOr<std::optional<std::vector<int64_t>>> Ints(std::string_view key) const;
  absl::StatusOr<std::optional<std::vector<double>>> Numbers(std::string_view key) const;
  // Lives as long as this object.
  absl::StatusOr<const std::vector<std::string>*> Strings(std::string_view key) const;

 private:
  const GgufValue* Find(std::string_view key) const;
  // Null when absent; an error when it is no number, or an array although `allow_array` is false.
  absl::StatusOr<const GgufNumbers*> FindNumbers(std::string_view key, bool allow_array) const;

  std::map<std::string, GgufValue, std::less<>> values_;
};

// A name from a file, made fit for a message: escaped, at most 100 characters, in quotes.
std::string QuoteName(std::string_view name);

}  // namespace rankine
