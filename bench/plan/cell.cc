#include "bench/plan/cell.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/encode/encoding_name.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

constexpr char kHeader[] = "out,in,form,keep,rank,bond,sites,encode,factor_encode,tokens";
constexpr size_t kColumns = 10;
constexpr int64_t kMaxExtent = 1 << 20;

constexpr std::pair<const char*, SynthForm> kForms[] = {{"dense", SynthForm::kDense},
                                                        {"svd", SynthForm::kSvd},
                                                        {"tucker", SynthForm::kTucker},
                                                        {"mpo", SynthForm::kMpo},
                                                        {"qlr", SynthForm::kQlr}};

// An empty field is 0.
absl::StatusOr<int64_t> Number(const std::string& text, int64_t least) {
  int64_t value = 0;
  if (text.empty() && least == 0) return 0;
  if (absl::SimpleAtoi(text, &value) && value >= least && value <= kMaxExtent) return value;
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no number that fits"));
}

std::string Describe(const std::vector<std::string>& f) {
  std::string text = absl::StrCat(f[0], " x ", f[1], ", ", f[2]);
  const char* kSizes[] = {"keep", "rank", "bond", "sites"};
  for (int i = 0; i < 4; ++i) {
    if (!f[3 + i].empty()) absl::StrAppend(&text, ", ", kSizes[i], " ", f[3 + i]);
  }
  absl::StrAppend(&text, ", ", f[7]);
  if (!f[8].empty() && f[8] != f[7]) absl::StrAppend(&text, " + ", f[8]);
  return text;
}

absl::StatusOr<Cell> ParseCell(const std::vector<std::string>& f) {
  if (f.size() != kColumns) {
    return absl::InvalidArgumentError(absl::StrCat("has ", f.size(), " fields"));
  }
  Cell cell{.matrix = Describe(f)};
  RK_ASSIGN_OR_RETURN(cell.out, Number(f[0], 1));
  RK_ASSIGN_OR_RETURN(cell.in, Number(f[1], 1));
  bool known = false;
  for (const auto& [name, form] : kForms) {
    if (f[2] != name) continue;
    cell.form.form = form;
    known = true;
  }
  if (!known) return absl::InvalidArgumentError(absl::StrCat("unknown form '", f[2], "'"));
  if (!f[3].empty() && !absl::SimpleAtod(f[3], &cell.form.keep)) {
    return absl::InvalidArgumentError(absl::StrCat("keep '", f[3], "' is no number"));
  }
  RK_ASSIGN_OR_RETURN(cell.form.rank, Number(f[4], 0));
  RK_ASSIGN_OR_RETURN(cell.form.bond, Number(f[5], 0));
  RK_ASSIGN_OR_RETURN(const int64_t sites, Number(f[6], 0));
  cell.form.sites = static_cast<int>(sites);
  RK_ASSIGN_OR_RETURN(cell.form.encoding, ParseEncoding(f[7]));
  RK_ASSIGN_OR_RETURN(cell.form.factor_encoding, ParseEncoding(f[8].empty() ? f[7] : f[8]));
  RK_ASSIGN_OR_RETURN(cell.tokens, Number(f[9], 1));
  RK_RETURN_IF_ERROR(CheckFormOptions(cell.form));
  return cell;
}

}  // namespace

absl::StatusOr<std::vector<Cell>> ParseCells(const std::string& text, const std::string& source) {
  std::vector<Cell> cells;
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (lines[0] != kHeader) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": line 1 must be: ", kHeader));
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    auto cell = ParseCell(absl::StrSplit(lines[i], ','));
    if (!cell.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": line ", i + 1, ": ", cell.status().message()));
    }
    cells.push_back(*std::move(cell));
  }
  if (cells.empty()) return absl::InvalidArgumentError(absl::StrCat(source, ": no cells"));
  return cells;
}

}  // namespace rankine
