// rankine embed MODEL --text FILE: the embeddings of an encoder.
#include <CLI/CLI.hpp>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "models/files/output_file.h"
#include "models/text.h"
#include "tools/cli/command.h"
#include "tools/cli/embedding_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"

namespace rankine {
namespace {

struct EmbedFlags {
  std::string model, file, out;
  std::vector<std::string> inputs;
  ModelFlags model_flags;
  EmbeddingFlags embedding;
};

// A text a line; empty lines are texts too, so that line numbers stay.
absl::StatusOr<std::vector<std::string>> ReadTexts(const EmbedFlags& flags) {
  if (flags.file.empty()) return flags.inputs;
  auto text = ReadFile(flags.file);
  if (!text.ok()) return text.status();
  if (absl::EndsWith(*text, "\n")) text->pop_back();
  std::vector<std::string> lines = absl::StrSplit(*text, '\n');
  for (std::string& line : lines) {
    if (absl::EndsWith(line, "\r")) line.pop_back();
  }
  return lines;
}

// NumPy's format 1.0: magic, version, the length of a header that ends a multiple of 64 bytes.
std::string NpyBytes(const Embeddings& e) {
  std::string header = absl::StrFormat(
      "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", e.count, e.dim);
  constexpr size_t kPreamble = 10;
  while ((kPreamble + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {'\x01', '\x00', static_cast<char>(header.size() & 0xff),
            static_cast<char>(header.size() >> 8)};
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(e.values.data()), e.values.size() * sizeof(float));
  return bytes;
}

std::string JsonLine(const Embeddings& e, int64_t i) {
  std::string line = absl::StrFormat("{\"index\":%d,\"tokens\":%d,\"embedding\":[", i,
                                     e.tokens[static_cast<size_t>(i)]);
  for (int64_t j = 0; j < e.dim; ++j)
    absl::StrAppendFormat(&line, "%s%.9g", j == 0 ? "" : ",", e.Row(i)[j]);
  return line + "]}\n";
}

absl::Status Write(const EmbedFlags& flags, const Embeddings& e) {
  if (absl::EndsWith(flags.out, ".npy")) return WriteNewFile(flags.out, NpyBytes(e));
  std::string lines;
  for (int64_t i = 0; i < e.count; ++i) {
    lines += JsonLine(e, i);
    if (flags.out.empty()) {
      if (!PrintNow(lines)) return absl::OkStatus();
      lines.clear();
    }
  }
  return flags.out.empty() ? absl::OkStatus() : WriteNewFile(flags.out, lines);
}

absl::Status Embed(const EmbedFlags& flags) {
  if (flags.file.empty() == flags.inputs.empty()) {
    return absl::InvalidArgumentError("give either --text FILE or --input TEXT");
  }
  auto texts = ReadTexts(flags);
  if (!texts.ok()) return texts.status();
  auto opened = OpenModel(flags.model, flags.model_flags);
  if (!opened.ok()) return opened.status();
  ProgressBar progress("embed");
  auto embeddings = EmbedTexts(*opened, flags.embedding, *texts, progress.AsProgressFn());
  progress.Finish();
  if (!embeddings.ok()) return embeddings.status();
  return Write(flags, *embeddings);
}

}  // namespace

void AddEmbedCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<EmbedFlags>();
  CLI::App* command = app.add_subcommand("embed", "Embeddings of texts by an encoder (BERT)");
  command->add_option("model", flags->model, "A model folder")->required();
  command->add_option("--text", flags->file, "A file with a text a line; - is standard input");
  command->add_option("--input", flags->inputs, "A text; may be given several times");
  command->add_option("--out", flags->out,
                      "A new file: .npy for NumPy, otherwise JSON lines (default: JSON lines to "
                      "standard output)");
  flags->embedding.AddTo(*command);
  flags->model_flags.AddComputeTo(*command);
  command->callback([flags, action] { *action = [flags] { return Embed(*flags); }; });
}

}  // namespace rankine
