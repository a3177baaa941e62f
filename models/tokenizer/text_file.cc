#include "models/tokenizer/text_file.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace rankine::tokenizer {
namespace {

// The largest published tokenizer.json has about 35 MB.
constexpr uintmax_t kMaxFileBytes = uintmax_t{256} << 20;

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": too large for a tokenizer's file"));
  }
  std::string text(static_cast<size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (!file) return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  return text;
}

absl::Status WriteTextFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
  return absl::OkStatus();
}

}  // namespace rankine::tokenizer
