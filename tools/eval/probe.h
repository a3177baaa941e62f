// A probing classifier: how much of a task's labels a linear model reads off frozen embeddings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/eval/embedder.h"
#include "tools/eval/logistic_regression.h"

namespace rankine {

struct LabelledTexts {
  std::vector<std::string> texts;
  std::vector<int64_t> labels;           // index into label_names
  std::vector<std::string> label_names;  // in order of their names
};

// Lines of text<TAB>label; the last tab divides. kInvalidArgument names the line without a label,
// and says when there are fewer than two different ones.
absl::StatusOr<LabelledTexts> ReadLabelledTexts(const std::string& path);

struct ProbeOptions {
  LogisticOptions logistic;
  int64_t folds = 5;
  uint64_t seed = 0;  // of the shuffle before the folds are dealt
};

struct ProbeResult {
  double accuracy = 0;        // over all held-out texts
  double standard_error = 0;  // binomial
  std::vector<double> fold_accuracies;
  std::vector<bool> correct;  // of each text, when it was held out
};

// The fold of each text: every label is dealt out evenly, shuffled by the seed.
// kInvalidArgument names a label with fewer texts than folds.
absl::StatusOr<std::vector<int64_t>> StratifiedFolds(const LabelledTexts& data, int64_t folds,
                                                     uint64_t seed);

// Each fold is predicted by a classifier fitted to the others.
absl::StatusOr<ProbeResult> CrossValidate(const LabelledTexts& data, const Embeddings& embeddings,
                                          const ProbeOptions& options);
// One classifier, fitted to `train`. kInvalidArgument names a label of `test` that `train` lacks.
absl::StatusOr<ProbeResult> TrainAndTest(const LabelledTexts& train, const Embeddings& train_x,
                                         const LabelledTexts& test, const Embeddings& test_x,
                                         const ProbeOptions& options);

// How far a probe of one model is from that of another on the same held-out texts.
struct PairedDifference {
  double mean = 0;            // accuracy of the first minus that of the second
  double standard_error = 0;  // from the texts on which they differ
};
PairedDifference ComparePredictions(const ProbeResult& first, const ProbeResult& second);

// Cosines between the embeddings of the same texts by two models.
struct CosineFidelity {
  double mean = 0, min = 0;
  double percentile1 = 0;  // a hundredth of the texts lie below
};
// kInvalidArgument when the dimensions differ.
absl::StatusOr<CosineFidelity> CompareEmbeddings(const Embeddings& a, const Embeddings& b);

}  // namespace rankine
