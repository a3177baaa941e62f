#include "tools/eval/completions.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/session.h"

namespace rankine {
namespace {

// Decoding sixteen sequences reads the weights once for all of them; more gain little on a CPU.
constexpr size_t kConcurrent = 16;

struct Active {
  size_t index;
  std::unique_ptr<Session> session;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> Complete(Engine& engine, const PromptCodec& codec,
                                                  const RequestLimits& limits,
                                                  const std::vector<std::string>& prompts,
                                                  GenerateParams params,
                                                  const ProgressFn& progress) {
  const auto named = [](size_t index, const std::string& message) {
    return absl::StrCat("prompt ", index + 1, ": ", message);
  };
  std::vector<std::string> completions(prompts.size());
  std::vector<Active> active;
  const ProgressReporter reporter(progress);
  size_t next = 0, done = 0;
  while (done < prompts.size()) {
    for (; next < prompts.size() && active.size() < kConcurrent; ++next) {
      params.prompt = TextPrompt{.text = prompts[next]};
      auto session = Session::Start(engine, codec, limits, params);
      if (!session.ok()) {
        return absl::Status(session.status().code(),
                            named(next, std::string(session.status().message())));
      }
      active.push_back({next, *std::move(session)});
    }
    active.front().session->Wait();
    for (auto a = active.begin(); a != active.end();) {
      Piece piece;
      while (a->session->Poll(&piece)) {
      }
      completions[a->index] += piece.text;
      if (piece.finish_reason == FinishReason::kError) {
        return absl::InternalError(named(a->index, piece.error));
      }
      if (!a->session->finished()) {
        ++a;
        continue;
      }
      a = active.erase(a);
      ++done;
      auto status = reporter.Report(static_cast<double>(done) / static_cast<double>(prompts.size()),
                                    absl::StrCat("completion ", done, " of ", prompts.size()));
      if (!status.ok()) return status;
    }
  }
  return completions;
}

}  // namespace rankine
