// Writing a model folder so that it is there complete or not at all.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

// Everything is written into a sibling folder ("OUT.partial-..."), which Commit syncs and renames
// to OUT. An interrupted run leaves at most the sibling, never a part of OUT. One thread.
class FolderWriter {
 public:
  // kAlreadyExists when `out` exists, with the fix in the message.
  static absl::StatusOr<FolderWriter> Create(const std::string& out);
  FolderWriter(FolderWriter&& other) noexcept;
  FolderWriter& operator=(FolderWriter&& other) noexcept;
  // Removes the sibling unless Commit has succeeded.
  ~FolderWriter();

  // Where the files go until Commit; a SafetensorsWriter may write here.
  const std::string& staging() const { return staging_; }
  // Creates staging()/name, synced.
  absl::Status WriteFile(const std::string& name, std::string_view bytes);
  // Makes the folder appear under its name; an error when that has been taken meanwhile.
  absl::Status Commit();

 private:
  FolderWriter(std::string out, std::string staging)
      : out_(std::move(out)), staging_(std::move(staging)) {}

  std::string out_;
  std::string staging_;  // empty once committed or moved from
};

// Copies what belongs to a model beside its weights and config.json: the licence, the tokenizer's
// files, the chat template and generation_config.json. From a GGUF source the tokenizer is written
// from its vocabulary.
absl::Status CopyCompanions(const Checkpoint& source, const std::string& staging);

}  // namespace rankine
