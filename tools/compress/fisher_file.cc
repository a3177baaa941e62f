#include "tools/compress/fisher_file.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/float_convert.h"
#include "models/status_macros.h"
#include "tools/compress/fingerprint.h"

namespace rankine {
namespace {

constexpr int64_t kDigestBlock = int64_t{1} << 20;

absl::StatusOr<std::string> DigestOf(const ReadOnlyFile& file) {
  Fingerprint digest;
  std::string block;
  for (int64_t begin = 0; begin < file.size(); begin += kDigestBlock) {
    block.resize(static_cast<size_t>(std::min(kDigestBlock, file.size() - begin)));
    const auto size = static_cast<int64_t>(block.size());
    RK_RETURN_IF_ERROR(file.ReadAt(begin, size, block.data()));
    digest.Add(block);
  }
  return digest.Hex();
}

}  // namespace

absl::StatusOr<FisherFile> FisherFile::Open(const std::string& path) {
  RK_ASSIGN_OR_RETURN(ReadOnlyFile opened, ReadOnlyFile::Open(path));
  FisherFile file(path, std::move(opened));
  RK_ASSIGN_OR_RETURN(file.entries_, ReadSafetensorsHeader(file.file_));
  RK_ASSIGN_OR_RETURN(file.digest_, DigestOf(file.file_));
  return file;
}

absl::StatusOr<std::vector<double>> FisherFile::Read(const std::string& linear,
                                                     int64_t out_features,
                                                     int64_t in_features) const {
  const SafetensorsEntry* entry = nullptr;
  for (const SafetensorsEntry& e : entries_) {
    if (e.name == linear + ".fisher" || e.name == linear + ".weight") entry = &e;
  }
  if (entry == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " has no tensor ", linear, ".fisher: it was made from another model"));
  }
  DType dtype = DType::kF32;
  const bool is_float = FindSafetensorsDType(entry->dtype, &dtype) && IsFloat(dtype);
  const bool fits = entry->shape == std::vector<int64_t>{in_features} ||
                    entry->shape == std::vector<int64_t>{out_features, in_features};
  if (!is_float || !fits) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor ", entry->name,
                                                   " is not a float tensor [", in_features,
                                                   "] or [", out_features, ", ", in_features, "]"));
  }
  std::string bytes(static_cast<size_t>(entry->bytes), '\0');
  RK_RETURN_IF_ERROR(file_.ReadAt(entry->offset, entry->bytes, bytes.data()));
  std::vector<double> weights(static_cast<size_t>(in_features));
  const int64_t count = entry->bytes / static_cast<int64_t>(SizeOf(dtype));
  for (int64_t i = 0; i < count; ++i) {
    const float value = FloatAt(dtype, bytes.data(), i);
    if (!std::isfinite(value) || value < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor ", entry->name, ": value ", i, " is ", value,
                       "; squared gradients are finite and not negative"));
    }
    weights[i % in_features] += value;
  }
  return weights;
}

absl::StatusOr<std::optional<std::map<std::string, std::vector<double>>>> ReadFisher(
    const FisherFile* file, const std::vector<const LinearInfo*>& linears) {
  std::optional<std::map<std::string, std::vector<double>>> weights;
  if (file == nullptr) return weights;
  weights.emplace();
  for (const LinearInfo* l : linears) {
    RK_ASSIGN_OR_RETURN((*weights)[l->name],
                        file->Read(l->name, l->out_features(), l->in_features()));
  }
  return weights;
}

}  // namespace rankine
