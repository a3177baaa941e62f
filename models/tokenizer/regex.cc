#define PCRE2_CODE_UNIT_WIDTH 8
#include "models/tokenizer/regex.h"

#include <pcre2.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rankine::tokenizer {
namespace {

// Published pre-tokenizers need a few steps per character; a million per match is far above the
// longest run that the limits on a prompt let through, and ends an exploding pattern within a
// fraction of a second.
constexpr uint32_t kBaseMatchLimit = 1'000'000;
constexpr uint32_t kMatchLimitPerByte = 64;
constexpr uint32_t kMatchLimitCap = 100'000'000;
// Lines: ^ and $ match at each line's ends, as in Oniguruma's default syntax.
constexpr uint32_t kCompileOptions =
    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackMax = 16 * 1024 * 1024;

// Unicode White_Space, for use inside a class. PCRE2's own \s also takes U+180E.
constexpr char kWhiteSpace[] =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{"
    "205f}\\x{3000}";

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct JitStackDeleter {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

absl::Status Unsupported(const std::string& pattern, const std::string& what) {
  return absl::UnimplementedError(
      absl::StrCat("regular expression \"", pattern, "\": ", what, " is not supported"));
}

// Spells \s and \S out as White_Space (\S inside a class stays PCRE2's: it differs for U+180E
// alone), and refuses what means something else to Oniguruma, the engine that the patterns were
// written for.
absl::StatusOr<std::string> SpellOutSpaces(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\') {
      ++i;
      if (next == 's') {
        out += in_class ? std::string(kWhiteSpace) : absl::StrCat("[", kWhiteSpace, "]");
      } else if (next == 'S' && !in_class) {
        out += absl::StrCat("[^", kWhiteSpace, "]");
      } else if (next == 'h' || next == 'H') {
        return Unsupported(pattern, "\\h");
      } else {
        out += {c, next};
      }
      continue;
    }
    if (in_class && c == '[') return Unsupported(pattern, "a class inside a class");
    if (in_class && c == '&' && next == '&') return Unsupported(pattern, "&& in a class");
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out.push_back(c);
  }
  return out;
}

uint32_t MatchLimit(size_t text_bytes) {
  const size_t limit = kBaseMatchLimit + text_bytes * kMatchLimitPerByte;
  return limit > kMatchLimitCap ? kMatchLimitCap : static_cast<uint32_t>(limit);
}

}  // namespace

struct Regex::Code {
  std::string pattern;
  pcre2_code* code = nullptr;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

absl::StatusOr<Regex> Regex::Compile(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression of ", pattern.size(), " bytes is too long"));
  }
  absl::StatusOr<std::string> spelled = SpellOutSpaces(pattern);
  if (!spelled.ok()) return spelled.status();
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled->data()), spelled->size(),
                             kCompileOptions, &error, &error_offset, nullptr);
  if (code->code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression \"", pattern, "\" is not valid: ", ErrorText(error)));
  }
  // Without a JIT on this machine the interpreter does the same work, more slowly.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

absl::StatusOr<Regex> Regex::CompileLiteral(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    const bool is_plain = (static_cast<uint8_t>(c) & 0x80) != 0 || (c >= '0' && c <= '9') ||
                          (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (!is_plain) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return Compile(pattern);
}

const std::string& Regex::pattern() const { return code_->pattern; }

absl::Status Regex::FindAll(std::string_view text, std::vector<TextRange>* matches) const {
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(code_->code, nullptr));
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(
      pcre2_match_context_create(nullptr));
  std::unique_ptr<pcre2_jit_stack, JitStackDeleter>
      stack;  // made when a match needs more than 32 KiB
  if (data == nullptr || context == nullptr) return absl::ResourceExhaustedError("out of memory");
  pcre2_set_match_limit(context.get(), MatchLimit(text.size()));

  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t offset = 0;
  while (offset < text.size()) {
    // The text was checked once by the caller; checking it again at each match would take quadratic
    // time.
    const int rc = pcre2_match(code_->code, subject, text.size(), offset, PCRE2_NO_UTF_CHECK,
                               data.get(), context.get());
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {
      stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      continue;
    }
    if (rc < 0) {
      return absl::InvalidArgumentError(absl::StrCat("regular expression \"", pattern(),
                                                     "\" fails on this text: ", ErrorText(rc)));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    // \K in a look-ahead can put the start after the end, or before the last match.
    if (ends[0] > ends[1] || ends[0] < offset) {
      return absl::InvalidArgumentError(
          absl::StrCat("regular expression \"", pattern(), "\" moves the start of its match"));
    }
    if (ends[1] > ends[0]) {
      matches->push_back({ends[0], ends[1]});
      offset = ends[1];
      continue;
    }
    // An empty match: go on after the next character.
    offset = ends[1] + 1;
    while (offset < text.size() && (static_cast<uint8_t>(text[offset]) & 0xC0) == 0x80) ++offset;
  }
  return absl::OkStatus();
}

}  // namespace rankine::tokenizer
