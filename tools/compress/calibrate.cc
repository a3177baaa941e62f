#include "tools/compress/calibrate.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/statistics_provider.h"

namespace rankine {

absl::StatusOr<CalibrateReport> Calibrate(const std::string& model_path, const std::string& out,
                                          const CalibrationOptions& options, int threads,
                                          const ProgressFn& progress) {
  if (options.files.empty()) return absl::InvalidArgumentError("give a text: --text FILE");
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, OpenCheckpoint(model_path));
  ProgressReporter reporter(progress);
  RK_RETURN_IF_ERROR(reporter.Report(0, "reading the model"));
  RK_ASSIGN_OR_RETURN(CalibrationText text, ReadCalibrationText(*checkpoint, options));
  RK_ASSIGN_OR_RETURN(const std::string digest, ModelFingerprint(*checkpoint));
  RK_ASSIGN_OR_RETURN(StatisticsFolder folder,
                      StatisticsFolder::Create(out, {.model_digest = digest,
                                                     .model_name = ModelName(model_path),
                                                     .text_digest = text.digest,
                                                     .tokens = text.tokens}));
  StatisticsProvider provider({.checkpoint = checkpoint.get(),
                               .windows = std::move(text.windows),
                               .folder = std::move(folder),
                               .threads = threads});
  CalibrateReport report{.layers = checkpoint->config().num_layers, .tokens = text.tokens};
  const auto layers = static_cast<double>(report.layers);
  for (int64_t layer = 0; layer < report.layers; ++layer) {
    const std::string what = absl::StrCat("layer ", layer + 1, " of ", report.layers);
    RK_ASSIGN_OR_RETURN(const LayerStatistics statistics, provider.Get(layer, [&](double fraction) {
      return reporter.Report((static_cast<double>(layer) + fraction) / layers, what);
    }));
    report.groups += static_cast<int64_t>(statistics.groups.size());
    RK_RETURN_IF_ERROR(reporter.Report(static_cast<double>(layer + 1) / layers, what));
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(out, ignored)) {
    report.bytes += static_cast<int64_t>(entry.file_size(ignored));
  }
  return report;
}

}  // namespace rankine
