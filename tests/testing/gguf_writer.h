// Makes GGUF files for tests, well-formed or broken on purpose: nothing is checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/block_formats.h"
#include "models/checkpoint/gguf_metadata.h"

namespace rankine::testing {

// The file's bytes of a value.
template <class T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}
std::string GgufString(std::string_view text);

class GgufWriter {
 public:
  struct Tensor {
    std::string name;
    uint32_t type = 0;
    std::vector<uint64_t> extents;  // innermost first, as in the file
    std::string data;
    int64_t offset = -1;  // -1: after the one before
  };

  // Set or replaced by key; the order is that of the first set.
  void Set(const std::string& key, GgufType type, const std::string& value_bytes);
  void SetU32(const std::string& key, uint32_t value) { Set(key, GgufType::kUint32, Bytes(value)); }
  void SetF32(const std::string& key, float value) { Set(key, GgufType::kFloat32, Bytes(value)); }
  void SetBool(const std::string& key, bool value);
  void SetString(const std::string& key, std::string_view value);
  void SetStrings(const std::string& key, const std::vector<std::string>& values);
  void SetI32s(const std::string& key, const std::vector<int32_t>& values);
  void SetF32s(const std::string& key, const std::vector<float>& values);
  void Remove(const std::string& key);
  // Appends a key even when it is there.
  void AddDuplicate(const std::string& key);

  void AddTensor(Tensor tensor) { tensors.push_back(std::move(tensor)); }
  void AddF32(const std::string& name, const std::vector<uint64_t>& extents,
              const std::vector<float>& values);
  // The first of that name; it must be there.
  Tensor& Find(const std::string& name);
  void RemoveTensor(const std::string& name);

  std::string Build() const;
  // Build() in a file of the test's temporary folder; returns the path.
  std::string Write(const std::string& file_name) const;

  // Written as they are, whatever else the file says.
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t extra_tensors = 0;  // added to the true count
  uint64_t extra_keys = 0;
  uint64_t alignment = 32;  // that data is laid out with; set the key as well to announce it
  std::vector<Tensor> tensors;

 private:
  struct Key {
    std::string key;
    std::string type_and_value;
  };
  std::vector<Key> keys_;
};

// A complete Llama with random weights: 2 layers, hidden 32, 4 heads of 8, 2 KV heads, FFN 64, 6
// tokens, all F32, untied, no biases.
GgufWriter TinyLlamaGguf();

// Content as a file in the test's temporary folder.
std::string WriteTestFile(const std::string& file_name, std::string_view content);

}  // namespace rankine::testing
