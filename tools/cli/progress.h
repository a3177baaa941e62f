// Draws the progress of a long-running command on standard error.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "tools/compress/progress.h"

namespace rankine {

// "eval [#########.....................]  31%  window 10 of 32  1m 12s left"; no time left when
// eta_seconds is 0.
std::string ProgressLine(const std::string& title, const Progress& progress, int bar_width = 30);
// "42s", "3m 05s", "2h 10m".
std::string FormatDuration(double seconds);

// On a terminal one line that is redrawn a few times a second; elsewhere (a log) a line for each
// tenth of the work that is done. One thread.
class ProgressBar {
 public:
  // `title` names the command.
  explicit ProgressBar(std::string title);
  // For tests: `stream` is not owned.
  ProgressBar(std::string title, std::FILE* stream, bool is_terminal);
  // Finishes.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // The time left is estimated from the pace since the first update.
  void Update(double fraction, const std::string& what);
  void Update(const Progress& progress);
  // Ends the line, so that other output may follow. Nothing when it was never begun.
  void Finish();
  // A callback for tools that never stops them; *this must outlive it.
  ProgressFn AsProgressFn();

 private:
  std::string title_;
  std::FILE* stream_;
  bool is_terminal_;
  bool line_open_ = false;
  int tenths_shown_ = 0;        // so that there is no line of 0%
  double first_fraction_ = -1;  // of the first update; -1 = none yet
  std::chrono::steady_clock::time_point first_update_, last_draw_;
};

}  // namespace rankine
