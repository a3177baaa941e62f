#include "tools/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rankine {
namespace {

// Often enough to look alive, seldom enough to cost nothing.
constexpr std::chrono::milliseconds kRedraw(100);

}  // namespace

std::string FormatDuration(double seconds) {
  const auto s = static_cast<int64_t>(std::ceil(std::max(0.0, seconds)));
  if (s < 60) return absl::StrCat(s, "s");
  if (s < 3600) return absl::StrFormat("%dm %02ds", s / 60, s % 60);
  return absl::StrFormat("%dh %02dm", s / 3600, s % 3600 / 60);
}

std::string ProgressLine(const std::string& title, const Progress& progress, int bar_width) {
  const double fraction = std::clamp(progress.fraction, 0.0, 1.0);
  const int filled = static_cast<int>(fraction * bar_width);
  std::string line = absl::StrFormat("%s [%s%s] %3d%%  %s", title, std::string(filled, '#'),
                                     std::string(bar_width - filled, '.'),
                                     static_cast<int>(fraction * 100), progress.text);
  if (progress.eta_seconds > 0 && fraction < 1) {
    absl::StrAppend(&line, "  ", FormatDuration(progress.eta_seconds), " left");
  }
  return line;
}

ProgressBar::ProgressBar(std::string title)
    : ProgressBar(std::move(title), stderr, isatty(STDERR_FILENO) == 1) {}

ProgressBar::ProgressBar(std::string title, std::FILE* stream, bool is_terminal)
    : title_(std::move(title)), stream_(stream), is_terminal_(is_terminal) {}

ProgressBar::~ProgressBar() { Finish(); }

void ProgressBar::Finish() {
  if (line_open_) std::fputc('\n', stream_);
  line_open_ = false;
}

void ProgressBar::Update(double fraction, const std::string& what) {
  const auto now = std::chrono::steady_clock::now();
  if (first_fraction_ < 0) {
    first_fraction_ = fraction;
    first_update_ = now;
  }
  const double seconds = std::chrono::duration<double>(now - first_update_).count();
  const double done = fraction - first_fraction_;
  Update({.fraction = fraction,
          .eta_seconds = done > 0 ? seconds * (1 - fraction) / done : 0,
          .text = what});
}

void ProgressBar::Update(const Progress& progress) {
  if (!is_terminal_) {
    const int tenths = static_cast<int>(std::clamp(progress.fraction, 0.0, 1.0) * 10);
    if (tenths <= tenths_shown_) return;
    tenths_shown_ = tenths;
    std::fprintf(stream_, "%s\n", ProgressLine(title_, progress).c_str());
    std::fflush(stream_);
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (line_open_ && progress.fraction < 1 && now - last_draw_ < kRedraw) return;
  last_draw_ = now;
  line_open_ = true;
  // Back to the first column, the line, and erase what a longer one left behind it.
  std::fprintf(stream_, "\r%s\x1b[K", ProgressLine(title_, progress).c_str());
  std::fflush(stream_);
}

ProgressFn ProgressBar::AsProgressFn() {
  return [this](const Progress& progress) {
    Update(progress);
    return true;
  };
}

}  // namespace rankine
