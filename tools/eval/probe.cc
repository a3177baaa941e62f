#include "tools/eval/probe.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

constexpr int64_t kMaxProbeBytes = int64_t{1} << 30;

// Indices of texts, dealt or chosen.
using Indices = std::vector<int64_t>;

absl::StatusOr<LogisticModel> Fit(const LabelledTexts& data, const Embeddings& x,
                                  const Indices& rows, const LogisticOptions& options) {
  std::vector<const float*> features;
  std::vector<int64_t> labels;
  for (const int64_t i : rows) {
    features.push_back(x.Row(i));
    labels.push_back(data.labels[static_cast<size_t>(i)]);
  }
  return FitLogistic(features, x.dim, labels, static_cast<int64_t>(data.label_names.size()),
                     options);
}

void Summarise(ProbeResult* result) {
  const auto n = static_cast<double>(result->correct.size());
  const auto right =
      static_cast<double>(std::count(result->correct.begin(), result->correct.end(), true));
  result->accuracy = right / n;
  result->standard_error = std::sqrt(result->accuracy * (1 - result->accuracy) / n);
}

// Not std::shuffle, whose order differs between libraries.
void Shuffle(Indices* items, std::mt19937_64* rng) {
  for (size_t i = items->size(); i > 1; --i) std::swap((*items)[i - 1], (*items)[(*rng)() % i]);
}

}  // namespace

absl::StatusOr<LabelledTexts> ReadLabelledTexts(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxProbeBytes));
  LabelledTexts data;
  std::vector<std::string> names;
  std::map<std::string, int64_t> ids;
  size_t begin = 0;
  for (int64_t line = 1; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string row = text.substr(begin, end - begin);
    begin = end + 1;
    if (!row.empty() && row.back() == '\r') row.pop_back();
    if (row.empty()) continue;
    const size_t tab = row.rfind('\t');
    if (tab == std::string::npos || tab + 1 == row.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": line ", line, " has no label: lines are text<TAB>label"));
    }
    names.push_back(row.substr(tab + 1));
    ids[names.back()] = 0;
    data.texts.push_back(row.substr(0, tab));
  }
  for (auto& [name, id] : ids) {
    id = static_cast<int64_t>(data.label_names.size());
    data.label_names.push_back(name);
  }
  if (data.label_names.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", data.label_names.size(),
                                                   " different labels; a probe needs at least 2"));
  }
  for (const std::string& name : names) data.labels.push_back(ids[name]);
  return data;
}

absl::StatusOr<std::vector<int64_t>> StratifiedFolds(const LabelledTexts& data, int64_t folds,
                                                     uint64_t seed) {
  if (folds < 2) return absl::InvalidArgumentError(absl::StrCat(folds, " folds; at least 2"));
  std::vector<Indices> by_label(data.label_names.size());
  for (size_t i = 0; i < data.labels.size(); ++i)
    by_label[static_cast<size_t>(data.labels[i])].push_back(static_cast<int64_t>(i));
  std::vector<int64_t> fold_of(data.labels.size());
  std::mt19937_64 rng(seed);
  int64_t next = 0;  // goes on from label to label, so that folds are of equal size
  for (size_t label = 0; label < by_label.size(); ++label) {
    if (static_cast<int64_t>(by_label[label].size()) < folds) {
      return absl::InvalidArgumentError(
          absl::StrCat("label '", absl::CHexEscape(data.label_names[label]), "' has ",
                       by_label[label].size(), " texts, fewer than the ", folds, " folds"));
    }
    Shuffle(&by_label[label], &rng);
    for (const int64_t i : by_label[label]) fold_of[static_cast<size_t>(i)] = next++ % folds;
  }
  return fold_of;
}

absl::StatusOr<ProbeResult> CrossValidate(const LabelledTexts& data, const Embeddings& embeddings,
                                          const ProbeOptions& options) {
  RK_ASSIGN_OR_RETURN(const auto fold_of, StratifiedFolds(data, options.folds, options.seed));
  ProbeResult result;
  result.correct.resize(data.texts.size());
  for (int64_t fold = 0; fold < options.folds; ++fold) {
    Indices train, test;
    for (size_t i = 0; i < fold_of.size(); ++i)
      (fold_of[i] == fold ? test : train).push_back(static_cast<int64_t>(i));
    RK_ASSIGN_OR_RETURN(const LogisticModel model, Fit(data, embeddings, train, options.logistic));
    int64_t right = 0;
    for (const int64_t i : test) {
      const auto index = static_cast<size_t>(i);
      result.correct[index] = model.Predict(embeddings.Row(i)) == data.labels[index];
      right += result.correct[index] ? 1 : 0;
    }
    result.fold_accuracies.push_back(static_cast<double>(right) / static_cast<double>(test.size()));
  }
  Summarise(&result);
  return result;
}

absl::StatusOr<ProbeResult> TrainAndTest(const LabelledTexts& train, const Embeddings& train_x,
                                         const LabelledTexts& test, const Embeddings& test_x,
                                         const ProbeOptions& options) {
  std::map<std::string, int64_t> ids;
  for (size_t k = 0; k < train.label_names.size(); ++k)
    ids[train.label_names[k]] = static_cast<int64_t>(k);
  Indices all(train.texts.size());
  std::iota(all.begin(), all.end(), 0);
  for (const std::string& name : test.label_names) {
    if (ids.count(name) != 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("label '", absl::CHexEscape(name),
                                                   "' of the test texts is not among those "
                                                   "of the training texts"));
  }
  RK_ASSIGN_OR_RETURN(const LogisticModel model, Fit(train, train_x, all, options.logistic));
  ProbeResult result;
  for (size_t i = 0; i < test.texts.size(); ++i) {
    const std::string& name = test.label_names[static_cast<size_t>(test.labels[i])];
    result.correct.push_back(model.Predict(test_x.Row(static_cast<int64_t>(i))) == ids[name]);
  }
  Summarise(&result);
  return result;
}

PairedDifference ComparePredictions(const ProbeResult& first, const ProbeResult& second) {
  const auto n = static_cast<double>(first.correct.size());
  double gained = 0, lost = 0;
  for (size_t i = 0; i < first.correct.size(); ++i) {
    if (first.correct[i] && !second.correct[i]) ++gained;
    if (!first.correct[i] && second.correct[i]) ++lost;
  }
  const double mean = (gained - lost) / n;
  return {.mean = mean, .standard_error = std::sqrt(((gained + lost) / n - mean * mean) / n)};
}

absl::StatusOr<CosineFidelity> CompareEmbeddings(const Embeddings& a, const Embeddings& b) {
  if (a.dim != b.dim || a.count != b.count || a.count == 0) {
    return absl::InvalidArgumentError(absl::StrCat("embeddings of ", a.count, " x ", a.dim, " and ",
                                                   b.count, " x ", b.dim, " cannot be compared"));
  }
  std::vector<double> cosines;
  for (int64_t i = 0; i < a.count; ++i) {
    double dot = 0, aa = 0, bb = 0;
    for (int64_t j = 0; j < a.dim; ++j) {
      const double x = a.Row(i)[j], y = b.Row(i)[j];
      dot += x * y;
      aa += x * x;
      bb += y * y;
    }
    const double norms = std::sqrt(aa * bb);
    cosines.push_back(norms > 0 ? dot / norms : 0);
  }
  std::sort(cosines.begin(), cosines.end());
  return CosineFidelity{
      .mean = std::accumulate(cosines.begin(), cosines.end(), 0.0) / static_cast<double>(a.count),
      .min = cosines.front(),
      .percentile1 = cosines[cosines.size() / 100]};
}

}  // namespace rankine
