#include "tools/cli/eval_probe.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"

namespace rankine {
namespace {

struct Data {
  LabelledTexts train;
  std::optional<LabelledTexts> test;

  const LabelledTexts& held_out() const { return test ? *test : train; }
};

struct Probed {
  ProbeResult result;
  Embeddings held_out;
  int64_t truncated = 0;
};

absl::StatusOr<Probed> Probe(const std::string& model, const ModelFlags& model_flags,
                             const ProbeFlags& flags, const Data& data) {
  RK_ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model, model_flags));
  ProgressBar progress("embed");
  auto embed = [&](const LabelledTexts& texts) {
    return EmbedTexts(opened, flags.embedding, texts.texts, progress.AsProgressFn());
  };
  RK_ASSIGN_OR_RETURN(Embeddings train, embed(data.train));
  Probed probed{.truncated = train.truncated};
  if (data.test) {
    RK_ASSIGN_OR_RETURN(probed.held_out, embed(*data.test));
    probed.truncated += probed.held_out.truncated;
    RK_ASSIGN_OR_RETURN(
        probed.result, TrainAndTest(data.train, train, *data.test, probed.held_out, flags.options));
  } else {
    RK_ASSIGN_OR_RETURN(probed.result, CrossValidate(data.train, train, flags.options));
    probed.held_out = std::move(train);
  }
  progress.Finish();
  return probed;
}

}  // namespace

void ProbeFlags::AddTo(CLI::App& command) {
  command.add_option("--probe", file,
                     "For an encoder: a file of text<TAB>label, classified from frozen embeddings "
                     "by logistic regression");
  command.add_option("--probe-test", test_file,
                     "Held-out texts and labels (default: cross-validation on --probe)");
  command.add_option("--probe-folds", options.folds, "Folds of the cross-validation")
      ->capture_default_str();
  command
      .add_option("--probe-c", options.logistic.c,
                  "Inverse strength of the classifier's L2 penalty, as in scikit-learn")
      ->capture_default_str();
  command.add_option("--probe-seed", options.seed, "Of the shuffle before folding")
      ->capture_default_str();
  embedding.AddTo(command);
}

absl::Status EvalProbe(const std::string& model, const std::string& against,
                       const ModelFlags& model_flags, const ProbeFlags& flags, bool json) {
  Data data;
  RK_ASSIGN_OR_RETURN(data.train, ReadLabelledTexts(flags.file));
  if (!flags.test_file.empty()) {
    RK_ASSIGN_OR_RETURN(data.test, ReadLabelledTexts(flags.test_file));
  }
  RK_ASSIGN_OR_RETURN(const Probed own, Probe(model, model_flags, flags, data));
  nlohmann::ordered_json out = {
      {"accuracy", own.result.accuracy},     {"standard_error", own.result.standard_error},
      {"folds", own.result.fold_accuracies}, {"texts", data.held_out().texts.size()},
      {"labels", data.train.label_names},    {"truncated", own.truncated}};
  std::string text = absl::StrFormat(
      "probe accuracy %.4f +- %.4f on %d held-out texts, %d labels%s\n", own.result.accuracy,
      own.result.standard_error, data.held_out().texts.size(), data.train.label_names.size(),
      own.truncated > 0 ? absl::StrFormat(" (%d texts cut off)", own.truncated) : "");
  if (!against.empty()) {
    RK_ASSIGN_OR_RETURN(const Probed other, Probe(against, model_flags, flags, data));
    RK_ASSIGN_OR_RETURN(const CosineFidelity cosine,
                        CompareEmbeddings(own.held_out, other.held_out));
    const PairedDifference difference = ComparePredictions(own.result, other.result);
    out["against"] = {{"accuracy", other.result.accuracy},
                      {"standard_error", other.result.standard_error},
                      {"difference", difference.mean},
                      {"difference_standard_error", difference.standard_error},
                      {"cosine_mean", cosine.mean},
                      {"cosine_percentile1", cosine.percentile1},
                      {"cosine_min", cosine.min}};
    text += absl::StrFormat(
        "against %s: accuracy %.4f, difference %+.4f +- %.4f\n"
        "cosine of the embeddings: mean %.5f, 1st percentile %.5f, least %.5f\n",
        against, other.result.accuracy, difference.mean, difference.standard_error, cosine.mean,
        cosine.percentile1, cosine.min);
  }
  PrintNow(json ? DumpJson(out) + "\n" : text);
  return absl::OkStatus();
}

}  // namespace rankine
