// A file of intermediate results: a text header and a payload of bytes, written so that it is there
// whole or not at all, and checked by its digest when it is read.
//
//   "RKRECORD1\n"  digest of the rest (32 hex digits) "\n"  header bytes as text "\n"  header
//   payload
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

struct Record {
  std::string header;   // JSON, by convention
  std::string payload;  // numbers in the machine's order (little endian)
};

// Replaces `path`: temporary sibling, fsync, rename. An error names the path.
absl::Status WriteRecord(const std::string& path, const Record& record);

// kNotFound when there is no such file, kDataLoss when it is damaged or no record; both name it.
absl::StatusOr<Record> ReadRecord(const std::string& path);

}  // namespace rankine
