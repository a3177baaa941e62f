#include "models/checkpoint/gguf_metadata.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

template <class T>
T Load(const GgufNumbers& numbers, int64_t i) {
  T value;
  std::memcpy(&value, numbers.bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

absl::Status WrongType(std::string_view key, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat("key ", QuoteName(key), " is not ", expected));
}

}  // namespace

std::string QuoteName(std::string_view name) {
  constexpr size_t kMaxLength = 100;
  const bool cut = name.size() > kMaxLength;
  const std::string shown =
      absl::CHexEscape(absl::string_view(name.data(), cut ? kMaxLength : name.size()));
  return absl::StrCat("'", shown, cut ? "...'" : "'");
}

int64_t GgufTypeSize(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

int64_t GgufNumbers::size() const {
  return static_cast<int64_t>(bytes.size()) / GgufTypeSize(type);
}

std::optional<int64_t> GgufNumbers::Int(int64_t i) const {
  switch (type) {
    case GgufType::kUint8:
      return Load<uint8_t>(*this, i);
    case GgufType::kInt8:
      return Load<int8_t>(*this, i);
    case GgufType::kUint16:
      return Load<uint16_t>(*this, i);
    case GgufType::kInt16:
      return Load<int16_t>(*this, i);
    case GgufType::kUint32:
      return Load<uint32_t>(*this, i);
    case GgufType::kInt32:
      return Load<int32_t>(*this, i);
    case GgufType::kInt64:
      return Load<int64_t>(*this, i);
    case GgufType::kUint64: {
      const uint64_t value = Load<uint64_t>(*this, i);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> GgufNumbers::Number(int64_t i) const {
  if (type == GgufType::kFloat32) return Load<float>(*this, i);
  if (type == GgufType::kFloat64) return Load<double>(*this, i);
  const std::optional<int64_t> value = Int(i);
  if (!value.has_value()) return std::nullopt;
  return static_cast<double>(*value);
}

bool GgufMetadata::Insert(std::string key, GgufValue value) {
  return values_.emplace(std::move(key), std::move(value)).second;
}

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::StatusOr<const GgufNumbers*> GgufMetadata::FindNumbers(std::string_view key,
                                                             bool allow_array) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  const GgufNumbers* numbers = std::get_if<GgufNumbers>(value);
  if (numbers == nullptr || (numbers->is_array && !allow_array)) {
    return WrongType(key, allow_array ? "a number or an array of numbers" : "a single number");
  }
  return numbers;
}

absl::StatusOr<std::optional<int64_t>> GgufMetadata::Int(std::string_view key) const {
  const absl::StatusOr<const GgufNumbers*> numbers = FindNumbers(key, /*allow_array=*/false);
  if (!numbers.ok()) return numbers.status();
  if (*numbers == nullptr) return std::nullopt;
  const std::optional<int64_t> value = (*numbers)->Int(0);
  if (!value.has_value()) return WrongType(key, "an integer of at most 63 bits");
  return value;
}

absl::StatusOr<std::optional<double>> GgufMetadata::Number(std::string_view key) const {
  const absl::StatusOr<const GgufNumbers*> numbers = FindNumbers(key, /*allow_array=*/false);
  if (!numbers.ok()) return numbers.status();
  if (*numbers == nullptr) return std::nullopt;
  const std::optional<double> value = (*numbers)->Number(0);
  if (!value.has_value()) return WrongType(key, "a number");
  return value;
}

absl::StatusOr<std::optional<bool>> GgufMetadata::Bool(std::string_view key) const {
  const absl::StatusOr<const GgufNumbers*> numbers = FindNumbers(key, /*allow_array=*/false);
  if (!numbers.ok()) return numbers.status();
  if (*numbers == nullptr) return std::nullopt;
  if ((*numbers)->type != GgufType::kBool) return WrongType(key, "a bool");
  return (*numbers)->bytes[0] != 0;
}

absl::StatusOr<std::optional<std::string>> GgufMetadata::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const std::string* text = std::get_if<std::string>(value);
  if (text == nullptr) return WrongType(key, "a string");
  return *text;
}

absl::StatusOr<std::optional<std::vector<int64_t>>> GgufMetadata::Ints(std::string_view key) const {
  const absl::StatusOr<const GgufNumbers*> numbers = FindNumbers(key, /*allow_array=*/true);
  if (!numbers.ok()) return numbers.status();
  if (*numbers == nullptr) return std::nullopt;
  std::vector<int64_t> values((*numbers)->size());
  for (size_t i = 0; i < values.size(); ++i) {
    const std::optional<int64_t> value = (*numbers)->Int(static_cast<int64_t>(i));
    if (!value.has_value()) return WrongType(key, "made of integers of at most 63 bits");
    values[i] = *value;
  }
  return values;
}

absl::StatusOr<std::optional<std::vector<double>>> GgufMetadata::Numbers(
    std::string_view key) const {
  const absl::StatusOr<const GgufNumbers*> numbers = FindNumbers(key, /*allow_array=*/true);
  if (!numbers.ok()) return numbers.status();
  if (*numbers == nullptr) return std::nullopt;
  std::vector<double> values((*numbers)->size());
  for (size_t i = 0; i < values.size(); ++i) {
    const std::optional<double> value = (*numbers)->Number(static_cast<int64_t>(i));
    if (!value.has_value()) return WrongType(key, "made of numbers");
    values[i] = *value;
  }
  return values;
}

absl::StatusOr<const std::vector<std::string>*> GgufMetadata::Strings(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  const auto* strings = std::get_if<std::vector<std::string>>(value);
  if (strings == nullptr) return WrongType(key, "an array of strings");
  return strings;
}

}  // namespace rankine
