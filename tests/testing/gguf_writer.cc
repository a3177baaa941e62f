#include "tests/testing/gguf_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "kernels/base/check.h"

namespace rankine::testing {
namespace {

std::string ArrayBytes(GgufType type, uint64_t count, const std::string& elements) {
  return Bytes(static_cast<uint32_t>(type)) + Bytes(count) + elements;
}

template <class T>
std::string NumberBytes(const std::vector<T>& values) {
  std::string bytes;
  for (const T& value : values) bytes += Bytes(value);
  return bytes;
}

void Pad(std::string* bytes, uint64_t alignment) {
  bytes->resize((bytes->size() + alignment - 1) / alignment * alignment);
}

}  // namespace

std::string GgufString(std::string_view text) {
  return Bytes(static_cast<uint64_t>(text.size())) + std::string(text);
}

void GgufWriter::Set(const std::string& key, GgufType type, const std::string& value_bytes) {
  const std::string value = Bytes(static_cast<uint32_t>(type)) + value_bytes;
  for (Key& existing : keys_) {
    if (existing.key == key) {
      existing.type_and_value = value;
      return;
    }
  }
  keys_.push_back({key, value});
}

void GgufWriter::SetBool(const std::string& key, bool value) {
  Set(key, GgufType::kBool, Bytes(static_cast<uint8_t>(value)));
}

void GgufWriter::SetString(const std::string& key, std::string_view value) {
  Set(key, GgufType::kString, GgufString(value));
}

void GgufWriter::SetStrings(const std::string& key, const std::vector<std::string>& values) {
  std::string elements;
  for (const std::string& value : values) elements += GgufString(value);
  Set(key, GgufType::kArray, ArrayBytes(GgufType::kString, values.size(), elements));
}

void GgufWriter::SetI32s(const std::string& key, const std::vector<int32_t>& values) {
  Set(key, GgufType::kArray, ArrayBytes(GgufType::kInt32, values.size(), NumberBytes(values)));
}

void GgufWriter::SetF32s(const std::string& key, const std::vector<float>& values) {
  Set(key, GgufType::kArray, ArrayBytes(GgufType::kFloat32, values.size(), NumberBytes(values)));
}

void GgufWriter::Remove(const std::string& key) {
  std::erase_if(keys_, [&](const Key& k) { return k.key == key; });
}

void GgufWriter::AddDuplicate(const std::string& key) {
  const auto it =
      std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.key == key; });
  RK_CHECK(it != keys_.end());
  keys_.push_back(Key(*it));
}

void GgufWriter::AddF32(const std::string& name, const std::vector<uint64_t>& extents,
                        const std::vector<float>& values) {
  AddTensor({.name = name, .type = 0, .extents = extents, .data = NumberBytes(values)});
}

GgufWriter::Tensor& GgufWriter::Find(const std::string& name) {
  const auto it =
      std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.name == name; });
  RK_CHECK(it != tensors.end());
  return *it;
}

void GgufWriter::RemoveTensor(const std::string& name) {
  std::erase_if(tensors, [&](const Tensor& t) { return t.name == name; });
}

std::string GgufWriter::Build() const {
  std::string file = magic + Bytes(version) + Bytes(uint64_t{tensors.size()} + extra_tensors) +
                     Bytes(uint64_t{keys_.size()} + extra_keys);
  for (const Key& key : keys_) file += GgufString(key.key) + key.type_and_value;
  std::string data;
  for (const Tensor& tensor : tensors) {
    Pad(&data, alignment);
    file += GgufString(tensor.name) + Bytes(static_cast<uint32_t>(tensor.extents.size()));
    for (const uint64_t extent : tensor.extents) file += Bytes(extent);
    file += Bytes(tensor.type) +
            Bytes(tensor.offset >= 0 ? static_cast<uint64_t>(tensor.offset) : data.size());
    data += tensor.data;
  }
  Pad(&file, alignment);
  Pad(&data, alignment);
  return file + data;
}

std::string GgufWriter::Write(const std::string& file_name) const {
  return WriteTestFile(file_name, Build());
}

GgufWriter TinyLlamaGguf() {
  constexpr uint64_t kHidden = 32, kKeyValue = 16, kIntermediate = 64, kVocabulary = 6;
  GgufWriter w;
  w.SetString("general.architecture", "llama");
  w.SetU32("llama.context_length", 128);
  w.SetU32("llama.embedding_length", kHidden);
  w.SetU32("llama.block_count", 2);
  w.SetU32("llama.feed_forward_length", kIntermediate);
  w.SetU32("llama.attention.head_count", 4);
  w.SetU32("llama.attention.head_count_kv", 2);
  w.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  w.SetString("tokenizer.ggml.model", "gpt2");
  w.SetString("tokenizer.ggml.pre", "smollm");
  w.SetStrings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a", "b", "ab"});
  w.SetI32s("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1});
  w.SetStrings("tokenizer.ggml.merges", {"a b"});
  w.SetU32("tokenizer.ggml.bos_token_id", 1);
  w.SetU32("tokenizer.ggml.eos_token_id", 2);

  std::mt19937 random(20240611);
  std::normal_distribution<float> normal;
  const auto add = [&](const std::string& name, const std::vector<uint64_t>& extents) {
    uint64_t size = 1;
    for (const uint64_t extent : extents) size *= extent;
    std::vector<float> values(size);
    for (float& value : values) value = normal(random);
    w.AddF32(name, extents, values);
  };
  add("token_embd.weight", {kHidden, kVocabulary});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    add(prefix + "attn_norm.weight", {kHidden});
    add(prefix + "attn_q.weight", {kHidden, kHidden});
    add(prefix + "attn_k.weight", {kHidden, kKeyValue});
    add(prefix + "attn_v.weight", {kHidden, kKeyValue});
    add(prefix + "attn_output.weight", {kHidden, kHidden});
    add(prefix + "ffn_norm.weight", {kHidden});
    add(prefix + "ffn_gate.weight", {kHidden, kIntermediate});
    add(prefix + "ffn_up.weight", {kHidden, kIntermediate});
    add(prefix + "ffn_down.weight", {kIntermediate, kHidden});
  }
  add("output_norm.weight", {kHidden});
  add("output.weight", {kHidden, kVocabulary});
  return w;
}

std::string WriteTestFile(const std::string& file_name, std::string_view content) {
  const std::string path = ::testing::TempDir() + "/" + file_name;
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

}  // namespace rankine::testing
