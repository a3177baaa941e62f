// How long-running tools tell what they do.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace rankine {

struct Progress {
  double fraction = 0;     // of the work, 0..1
  double eta_seconds = 0;  // time left at the pace so far; 0 while unknown
  std::string text;        // "layer 3 of 30: calibrating"
};

// Called from the thread that runs the tool. False stops it: it returns kCancelled, and a resumable
// tool goes on from there the next time.
using ProgressFn = std::function<bool(const Progress&)>;

// Adds the time left to fractions, and turns a "stop" into a Status.
class ProgressReporter {
 public:
  explicit ProgressReporter(ProgressFn callback) : callback_(std::move(callback)) {}

  // `start` is the fraction that was done when this run began (a resumed one), so that the pace is
  // that of this run.
  void SetStart(double fraction) {
    start_ = fraction;
    started_ = std::chrono::steady_clock::now();
  }

  absl::Status Report(double fraction, std::string text) const {
    if (!callback_) return absl::OkStatus();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    const double done = fraction - start_;
    const double eta = done > 0 ? seconds * (1 - fraction) / done : 0;
    if (callback_({.fraction = fraction, .eta_seconds = eta, .text = std::move(text)})) {
      return absl::OkStatus();
    }
    return absl::CancelledError("stopped; run the same command again to go on");
  }

 private:
  ProgressFn callback_;
  double start_ = 0;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace rankine
