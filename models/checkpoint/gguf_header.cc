#include "models/checkpoint/gguf_header.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"
#include "models/checkpoint/gguf_cursor.h"

namespace rankine {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
// The least bytes of a key with its value: length, type, one byte; of a tensor: length, rank, type,
// offset; and of a string in an array: its length.
constexpr int64_t kMinValueBytes = 8 + 4 + 1;
constexpr int64_t kMinTensorBytes = 8 + 4 + 4 + 8;
constexpr int64_t kMinStringBytes = 8;
// Limits of the specification.
constexpr size_t kMaxKeyLength = 65535;
constexpr uint32_t kMaxDimensions = 4;
constexpr int64_t kDefaultAlignment = 32;

void CheckVersion(GgufCursor& cursor, uint32_t version) {
  if (!cursor.ok() || version == 2 || version == 3) return;
  if ((version & 0xFFFFu) == 0 && version != 0) {
    cursor.FailUnimplemented(
        "big-endian GGUF files are not supported; convert it with gguf-py's gguf-convert-endian to "
        "little-endian");
  } else {
    cursor.FailUnimplemented(
        absl::StrCat("GGUF version ", version,
                     " is not supported (2 and 3 are); convert the model again "
                     "with a current llama.cpp"));
  }
}

GgufValue ReadArray(GgufCursor& cursor) {
  const auto type = static_cast<GgufType>(cursor.ReadU32());
  if (type == GgufType::kString) {
    std::vector<std::string> strings;
    const int64_t count = cursor.ReadCount(kMinStringBytes, "strings");
    for (int64_t i = 0; i < count && cursor.ok(); ++i) strings.push_back(cursor.ReadString());
    return strings;
  }
  GgufNumbers numbers{.type = type, .is_array = true, .bytes = {}};
  const int64_t size = GgufTypeSize(type);
  if (type == GgufType::kArray) {
    cursor.FailUnimplemented("arrays of arrays are not supported");
  } else if (size == 0) {
    cursor.Fail(absl::StrCat("unknown value type ", static_cast<uint32_t>(type)));
  }
  if (!cursor.ok()) return GgufNumbers{};
  // count * size cannot overflow: ReadCount bounds it by the file's size.
  numbers.bytes = cursor.ReadBytes(cursor.ReadCount(size, "array elements") * size);
  return numbers;
}

GgufValue ReadValue(GgufCursor& cursor) {
  const auto type = static_cast<GgufType>(cursor.ReadU32());
  if (type == GgufType::kArray) return ReadArray(cursor);
  if (type == GgufType::kString) return cursor.ReadString();
  const int64_t size = GgufTypeSize(type);
  if (size == 0) {
    cursor.Fail(absl::StrCat("unknown value type ", static_cast<uint32_t>(type)));
    return GgufNumbers{};
  }
  return GgufNumbers{.type = type, .is_array = false, .bytes = cursor.ReadBytes(size)};
}

void ReadMetadata(GgufCursor& cursor, int64_t count, GgufMetadata* metadata) {
  for (int64_t i = 0; i < count && cursor.ok(); ++i) {
    cursor.set_context(absl::StrCat("name of key ", i));
    std::string key = cursor.ReadString();
    if (key.size() > kMaxKeyLength) cursor.Fail(absl::StrCat("has ", key.size(), " bytes"));
    cursor.set_context(absl::StrCat("key ", QuoteName(key)));
    GgufValue value = ReadValue(cursor);
    if (cursor.ok() && !metadata->Insert(std::move(key), std::move(value))) {
      cursor.Fail("appears twice");
    }
  }
}

// A u64 extent or offset that must fit in int64.
int64_t ReadExtent(GgufCursor& cursor, const char* what) {
  const uint64_t value = cursor.ReadU64();
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    cursor.Fail(absl::StrCat(what, " ", value, " is too large"));
    return 0;
  }
  return static_cast<int64_t>(value);
}

void ReadShape(GgufCursor& cursor, GgufTensor* tensor) {
  const uint32_t rank = cursor.ReadU32();
  if (rank < 1 || rank > kMaxDimensions) {
    cursor.Fail(absl::StrCat("has ", rank, " dimensions; 1 to ", kMaxDimensions, " are allowed"));
  }
  for (uint32_t d = 0; d < rank && cursor.ok(); ++d) {
    tensor->shape.push_back(ReadExtent(cursor, "extent"));
    if (tensor->shape.back() == 0) cursor.Fail(absl::StrCat("extent ", d, " is 0"));
  }
  std::reverse(tensor->shape.begin(), tensor->shape.end());
}

void ReadType(GgufCursor& cursor, GgufTensor* tensor) {
  const uint32_t type = cursor.ReadU32();
  if (!cursor.ok()) return;
  const BlockFormat* format = FindBlockFormat(type);
  if (format == nullptr) {
    cursor.FailUnimplemented(absl::StrCat("type ", GgmlTypeName(type), " is not supported (",
                                          SupportedGgmlTypes(),
                                          " are); use a file quantised to one of these"));
    return;
  }
  tensor->type = format->type;
}

void ComputeBytes(GgufCursor& cursor, GgufTensor* tensor) {
  if (!cursor.ok()) return;
  const BlockFormat& format = GetBlockFormat(tensor->type);
  const int64_t cols = tensor->shape.back();
  if (cols % format.values_per_block != 0) {
    cursor.Fail(absl::StrCat("rows of ", cols, " values are no multiple of the ",
                             format.values_per_block, " values of a ", std::string(format.name),
                             " block"));
    return;
  }
  int64_t bytes = cols / format.values_per_block;
  bool fits = CheckedMul(bytes, format.bytes_per_block, &bytes);
  int64_t values = cols;
  for (size_t d = 0; d + 1 < tensor->shape.size(); ++d) {
    fits = fits && CheckedMul(bytes, tensor->shape[d], &bytes) &&
           CheckedMul(values, tensor->shape[d], &values);
  }
  if (!fits) cursor.Fail("the product of its dimensions overflows");
  tensor->bytes = bytes;
}

void ReadTensorTable(GgufCursor& cursor, int64_t count, std::vector<GgufTensor>* tensors) {
  std::set<std::string> names;
  for (int64_t i = 0; i < count && cursor.ok(); ++i) {
    cursor.set_context(absl::StrCat("name of tensor ", i));
    GgufTensor tensor{.name = cursor.ReadString(), .shape = {}};
    if (tensor.name.size() > kMaxKeyLength) {
      cursor.Fail(absl::StrCat("has ", tensor.name.size(), " bytes"));
    }
    cursor.set_context(absl::StrCat("tensor ", QuoteName(tensor.name)));
    ReadShape(cursor, &tensor);
    ReadType(cursor, &tensor);
    tensor.offset = ReadExtent(cursor, "offset");
    ComputeBytes(cursor, &tensor);
    if (cursor.ok() && !names.insert(tensor.name).second) cursor.Fail("appears twice");
    tensors->push_back(std::move(tensor));
  }
}

absl::StatusOr<int64_t> Alignment(const GgufMetadata& metadata) {
  const absl::StatusOr<std::optional<int64_t>> alignment = metadata.Int("general.alignment");
  if (!alignment.ok()) return alignment.status();
  const int64_t value = alignment->value_or(kDefaultAlignment);
  constexpr int64_t kMaxAlignment = int64_t{1} << 31;
  if (value <= 0 || value > kMaxAlignment || !std::has_single_bit(static_cast<uint64_t>(value))) {
    return absl::InvalidArgumentError(absl::StrCat("key 'general.alignment' is ", value,
                                                   ", which is no power of two up to 2^31"));
  }
  return value;
}

absl::Status CheckNotSplit(const GgufMetadata& metadata, size_t num_tensors) {
  constexpr char kFix[] = "; merge the parts with llama.cpp's llama-gguf-split --merge";
  const auto count = metadata.Int("split.count");
  if (!count.ok()) return count.status();
  if (count->value_or(1) > 1) {
    const auto number = metadata.Int("split.no");
    return absl::UnimplementedError(absl::StrCat(
        "split files are not supported, and this is part ",
        number.ok() && number->has_value() ? absl::StrCat(**number + 1) : std::string("?"), " of ",
        **count, kFix));
  }
  const auto tensors = metadata.Int("split.tensors.count");
  if (!tensors.ok()) return tensors.status();
  if (tensors->has_value() && **tensors != static_cast<int64_t>(num_tensors)) {
    return absl::UnimplementedError(
        absl::StrCat("split files are not supported, and of ", **tensors,
                     " tensors (key 'split.tensors.count') this part has ", num_tensors, kFix));
  }
  return absl::OkStatus();
}

// Turns offsets into offsets from the start of the file, and checks that the tensors tile the data
// section.
absl::Status PlaceTensors(int64_t header_bytes, int64_t alignment, int64_t file_bytes,
                          std::vector<GgufTensor>* tensors) {
  std::vector<GgufTensor*> by_offset;
  for (GgufTensor& tensor : *tensors) by_offset.push_back(&tensor);
  std::stable_sort(by_offset.begin(), by_offset.end(),
                   [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  const int64_t data_begin = RoundUp(header_bytes, alignment);
  int64_t expected = 0;
  for (GgufTensor* tensor : by_offset) {
    const auto fault = [&](const std::string& what) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", QuoteName(tensor->name), ": ", what));
    };
    if (tensor->offset % alignment != 0) {
      return fault(
          absl::StrCat("offset ", tensor->offset, " is no multiple of the alignment ", alignment));
    }
    if (tensor->offset < expected) {
      return fault(absl::StrCat("offset ", tensor->offset, " overlaps another tensor that ends at ",
                                expected));
    }
    if (data_begin > file_bytes || tensor->offset > file_bytes - data_begin ||
        tensor->bytes > file_bytes - data_begin - tensor->offset) {
      return fault(absl::StrCat(tensor->bytes, " bytes at offset ", tensor->offset,
                                " of the data reach beyond the end of the file (", file_bytes,
                                " bytes); it is truncated, download or copy it again"));
    }
    if (tensor->offset > expected) {
      return fault(absl::StrCat("offset ", tensor->offset, " leaves a hole after ", expected));
    }
    // Cannot overflow: the tensor lies within the file, and an alignment is at most 2^31.
    expected = RoundUp(tensor->offset + tensor->bytes, alignment);
  }
  for (GgufTensor& tensor : *tensors) tensor.offset += data_begin;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufHeader> ReadGgufHeader(const ReadOnlyFile& file) {
  GgufHeader header;
  GgufCursor cursor(file);
  if (cursor.ReadU32() != kMagic)
    cursor.Fail("this is not a GGUF file: it does not begin with GGUF");
  header.version = cursor.ReadU32();
  CheckVersion(cursor, header.version);
  cursor.set_context("number of tensors");
  const int64_t num_tensors = cursor.ReadCount(kMinTensorBytes, "tensors");
  cursor.set_context("number of keys");
  const int64_t num_keys = cursor.ReadCount(kMinValueBytes, "keys");
  ReadMetadata(cursor, num_keys, &header.metadata);
  if (!cursor.ok()) return cursor.status();
  // Before the table: of a split file, that it is split is the thing to say.
  absl::Status status = CheckNotSplit(header.metadata, num_tensors);
  if (!status.ok()) return status;
  ReadTensorTable(cursor, num_tensors, &header.tensors);
  if (!cursor.ok()) return cursor.status();
  const absl::StatusOr<int64_t> alignment = Alignment(header.metadata);
  if (!alignment.ok()) return alignment.status();
  status = PlaceTensors(cursor.offset(), *alignment, file.size(), &header.tensors);
  if (!status.ok()) return status;
  return header;
}

}  // namespace rankine
