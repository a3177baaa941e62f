// ConvertModel into block encodings, and reading what it wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "models/checkpoint/convert.h"
#include "models/checkpoint/manifest.h"
#include "models/encode/block_storage.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "models/llama_layout.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using testing::Decode;
using ::testing::ElementsAre;
using testing::FindMatrix;
using ::testing::HasSubstr;
using testing::MustConvert;
using testing::MustOpen;
using testing::ReadAll;
using testing::ReadWholeFile;
using testing::Rewrite;
using testing::Rounded;
using testing::Rule;
using testing::Target;
using testing::TempFolder;
using testing::WriteTinyLlama;
using testing::WriteWholeFile;

TEST(ConvertEncode, EncodesEveryLinearButTheEmbedding) {
  for (const char* name : {"int4:g16", "int3:g64:offset", "int5:g32:k:offset", "nf4:row", "e8p"}) {
    TempFolder temp;
    WriteTinyLlama(temp / "src", {.tied = false, .biases = true});
    const auto report = MustConvert(temp / "src", temp / "dst", {.encode = Target(name)});
    const auto source = MustOpen(temp / "src"), copy = MustOpen(temp / "dst");
    ASSERT_NE(copy, nullptr);
    ASSERT_EQ(copy->factored().size(), 15u);  // 2 layers of 7, lm_head
    EXPECT_EQ(report.cores.size(), 15u);
    EXPECT_EQ(copy->Find(kEmbeddingTensor)->stored_type, "BF16");
    for (const FactoredMatrix& matrix : copy->factored()) {
      const Core& core = matrix.terms[0].cores[0];
      EXPECT_EQ(EncodingName(core.encoding), name);
      EXPECT_EQ(copy->Find(matrix.name + ".weight"), nullptr);
      const std::vector<float> before = ReadAll(*source, matrix.name + ".weight");
      EXPECT_EQ(Decode(*copy, core), Rounded(before, matrix.in_features, core.encoding));
      EXPECT_GT(matrix.provenance.relative_error, 0);
      if (matrix.name != "lm_head") {
        EXPECT_EQ(ReadAll(*copy, matrix.bias_tensor), ReadAll(*source, matrix.name + ".bias"));
      }
    }
  }
}

TEST(ConvertEncode, ReportsBytesAndErrors) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const auto report = MustConvert(temp / "src", temp / "dst", {.encode = Target("int4:g16")});
  const auto source = MustOpen(temp / "src");
  const ConvertedCore& core = report.cores[0];
  EXPECT_EQ(core.linear, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(core.core, "W");
  EXPECT_EQ(core.weights, 32 * 32);
  EXPECT_EQ(core.bytes, 32 * 32 * 5 / 8);  // 4 bits, and 16 for each 16 weights
  const std::vector<float> before = ReadAll(*source, core.linear + ".weight");
  const std::vector<float> after = Rounded(before, 32, core.encoding);
  double error = 0, energy = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    error += std::pow(static_cast<double>(before[i]) - after[i], 2);
    energy += std::pow(static_cast<double>(before[i]), 2);
  }
  EXPECT_NEAR(core.relative_error, std::sqrt(error / energy), 1e-6);
}

TEST(ConvertEncode, ThreadsChangeNothing) {
  for (const char* name : {"int4:g64", "e8p"}) {
    TempFolder temp;
    // Wide enough for several runs of rows.
    WriteTinyLlama(temp / "src", {.hidden = 512, .intermediate = 1024, .layers = 1});
    MustConvert(temp / "src", temp / "one", {.encode = Target(name), .num_threads = 1});
    MustConvert(temp / "src", temp / "many", {.encode = Target(name), .num_threads = 5});
    for (const char* file : {"/model.safetensors", "/factorization.json"}) {
      EXPECT_EQ(ReadWholeFile(temp / "one" + file), ReadWholeFile(temp / "many" + file)) << file;
    }
  }
}

TEST(ConvertEncode, FactorsAreEncodedAndTheirScalesStay) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.kv_heads = 4, .factored_rank = 20});
  const auto report = MustConvert(temp / "src", temp / "dst", {.encode = Target("int6:g16")});
  const auto source = MustOpen(temp / "src"), copy = MustOpen(temp / "dst");
  ASSERT_EQ(copy->factored().size(), 14u);
  EXPECT_EQ(report.cores.size(), 28u);
  const FactoredMatrix& matrix = copy->factored()[0];
  const auto& cores = matrix.terms[0].cores;
  EXPECT_EQ(matrix.sorted_leg, "r");
  EXPECT_EQ(cores[0].encoding, Target("int6:g16").encoding);
  EXPECT_EQ(cores[1].encoding, Encoding::Float(DType::kF32));
  EXPECT_EQ(ReadAll(*copy, matrix.name + ".S"), ReadAll(*source, matrix.name + ".S"));
  // A leg of 20: the last group has four weights.
  EXPECT_EQ(Decode(*copy, cores[0]),
            Rounded(ReadAll(*source, matrix.name + ".U"), 20, cores[0].encoding));
  EXPECT_EQ(copy->Find(cores[0].TensorOf("scales"))->shape, (std::vector<int64_t>{32, 2}));
}

TEST(ConvertEncode, TheFirstRuleThatMatchesWins) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const ConvertOptions options{.map = {Rule("layers\\.0\\.mlp", "int8:g32"),
                                       Rule("mlp", "int4:g16"), Rule("embed", "int8:row"),
                                       Rule("no_such_linear", "nf4"), Rule("v_proj", "f16"),
                                       Rule("k_proj", "keep")}};
  const auto report = MustConvert(temp / "src", temp / "dst", options);
  const auto copy = MustOpen(temp / "dst");
  const auto encoding_of = [&](const std::string& name) {
    const FactoredMatrix* matrix = FindMatrix(*copy, name);
    if (matrix != nullptr) return EncodingName(matrix->terms[0].cores[0].encoding);
    return copy->Find(name + ".weight")->stored_type;
  };
  EXPECT_EQ(encoding_of("model.layers.0.mlp.up_proj"), "int8:g32");
  EXPECT_EQ(encoding_of("model.layers.1.mlp.up_proj"), "int4:g16");
  EXPECT_EQ(encoding_of("model.embed_tokens"), "int8:row");
  EXPECT_EQ(encoding_of("model.layers.1.self_attn.v_proj"), "F16");
  EXPECT_EQ(encoding_of("model.layers.1.self_attn.k_proj"), "BF16");
  EXPECT_EQ(encoding_of("model.layers.1.self_attn.q_proj"), "BF16");
  EXPECT_THAT(report.unmatched_linears,
              ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj",
                          "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"));
  EXPECT_THAT(report.unused_rules, ElementsAre("no_such_linear"));
}

TEST(ConvertEncode, BlocksAreCarriedOverUntouchedOrDecoded) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.biases = true});
  MustConvert(temp / "src", temp / "int4",
              {.map = {Rule("embed", "int8:g32")}, .encode = Target("int4:g16:k:offset")});
  MustConvert(temp / "int4", temp / "same", {});
  MustConvert(temp / "int4", temp / "again",
              {.map = {Rule("embed", "int8:g32")}, .encode = Target("int4:g16:k:offset")});
  for (const char* folder : {"same", "again"}) {
    for (const char* file : {"/model.safetensors", "/factorization.json"}) {
      EXPECT_EQ(ReadWholeFile(temp / folder + file), ReadWholeFile(temp / "int4" + file)) << folder;
    }
  }
  const std::string q = "model.layers.0.self_attn.q_proj";
  const auto encoded = MustOpen(temp / "int4");
  const std::vector<float> decoded = Decode(*encoded, FindMatrix(*encoded, q)->terms[0].cores[0]);
  MustConvert(temp / "int4", temp / "f32", {.encode = Target("f32")});
  const auto floats = MustOpen(temp / "f32");
  EXPECT_EQ(ReadAll(*floats, FindMatrix(*floats, q)->terms[0].cores[0].TensorOf("values")),
            decoded);
  // From one block encoding to another, by way of the decoded values.
  MustConvert(temp / "int4", temp / "int8", {.encode = Target("int8:g16")});
  const auto other = MustOpen(temp / "int8");
  EXPECT_EQ(Decode(*other, FindMatrix(*other, q)->terms[0].cores[0]),
            Rounded(decoded, 32, Target("int8:g16").encoding));
}

// Every matrix of SmolLM2 as shipped, embedding included, bit for bit.
TEST(ConvertEncode, KeepsGgufBlocksExactly) {
  const char* path = std::getenv("RANKINE_TEST_GGUF");
  ASSERT_NE(path, nullptr)
      << "set RANKINE_TEST_GGUF to the path of SmolLM2-135M-Instruct.Q4_1.gguf";
  TempFolder temp;
  const auto report = MustConvert(path, temp / "dst", {.encode = Target("keep")});
  EXPECT_EQ(report.cores.size(), 211u);
  const auto source = MustOpen(path), copy = MustOpen(temp / "dst");
  ASSERT_EQ(copy->factored().size(), 211u);
  for (const FactoredMatrix& matrix : copy->factored()) {
    const std::vector<float> expected = ReadAll(*source, matrix.name + ".weight");
    const std::vector<float> decoded = Decode(*copy, matrix.terms[0].cores[0]);
    ASSERT_EQ(std::memcmp(decoded.data(), expected.data(), expected.size() * 4), 0) << matrix.name;
  }
}

TEST(ConvertEncode, TransformsAreCarriedOver) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  MustConvert(temp / "src", temp / "plain", {.encode = Target("int8:g16")});
  std::string signs(32, '\1'), indices(32 * 4, '\0');
  signs[3] = static_cast<char>(-1);
  for (int32_t i = 0; i < 32; ++i) std::memcpy(indices.data() + 4 * i, &i, 4);
  Rewrite(temp / "plain", temp / "rotated",
          {{{"signs", DType::kI8, {32}}, signs}, {{"indices", DType::kI32, {32}}, indices}},
          [](const std::string&, std::string*) {});
  auto plain = MustOpen(temp / "plain");
  std::vector<FactoredMatrix> matrices = plain->factored();
  matrices[0].input_transforms = {{Transform::Kind::kHadamard, "signs", "", false}};
  matrices[0].output_transforms = {{Transform::Kind::kHadamard, "signs", "", true},
                                   {Transform::Kind::kPermutation, "indices", ""}};
  WriteWholeFile(temp / "rotated/factorization.json", SerializeManifest(matrices));
  MustConvert(temp / "rotated", temp / "dst", {.encode = Target("int4:g16")});
  const auto copy = MustOpen(temp / "dst");
  ASSERT_NE(copy, nullptr);
  EXPECT_TRUE(copy->factored()[0].output_transforms[0].transposed);
  EXPECT_FALSE(copy->factored()[0].input_transforms[0].transposed);
  // Signs as floats and as they are, indices as they are.
  const TensorInfo* tensor = copy->Find("signs");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(ReadAll(*copy, "signs")[3], -1.0f);
  EXPECT_EQ(ReadAll(*copy, "signs")[4], 1.0f);
  std::vector<int8_t> raw_signs(32);
  ASSERT_TRUE(copy->ReadRows(*tensor, 0, 1, DType::kI8, raw_signs.data()).ok());
  EXPECT_EQ(raw_signs[3], -1);
  std::vector<int32_t> raw_indices(32);
  const TensorInfo* list = copy->Find("indices");
  ASSERT_TRUE(copy->ReadRows(*list, 0, 1, DType::kI32, raw_indices.data()).ok());
  EXPECT_EQ(raw_indices[31], 31);
  EXPECT_EQ(copy->ReadRows(*list, 0, 1, DType::kF32, raw_indices.data()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(copy->ReadRows(*list, 0, 2, DType::kI32, raw_indices.data()).code(),
            absl::StatusCode::kOutOfRange);
}

TEST(ConvertEncode, ScalesThatAreNotFiniteNameTheTensor) {
  const std::string q = "model.layers.0.self_attn.q_proj";
  for (const uint16_t bad : {uint16_t{0x7C00}, uint16_t{0xFC00}, uint16_t{0x7E00}}) {
    for (const char* role : {".W.scales", ".W.offsets"}) {
      TempFolder temp;
      WriteTinyLlama(temp / "src", {});
      MustConvert(temp / "src", temp / "good", {.encode = Target("int4:g16:offset")});
      Rewrite(temp / "good", temp / "bad", {}, [&](const std::string& name, std::string* bytes) {
        if (name == q + role) std::memcpy(bytes->data() + 2 * (5 * 2 + 1), &bad, 2);
      });
      const auto checkpoint = MustOpen(temp / "bad");
      BlockRowsBuffer buffer;
      const Core& core = FindMatrix(*checkpoint, q)->terms[0].cores[0];
      EXPECT_TRUE(checkpoint->ReadBlockRows(core, 0, 5, 32, &buffer).ok());
      const absl::Status status = checkpoint->ReadBlockRows(core, 4, 6, 32, &buffer);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(q + role), HasSubstr("at row 5, group 1 is not finite")));
      const auto converted = ConvertModel(*checkpoint, temp / "dst", ConvertOptions{});
      EXPECT_THAT(std::string(converted.status().message()), HasSubstr(q + role));
    }
  }
}

TEST(ConvertEncode, RowsAndColumnsOutsideTheTensorAreErrors) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  MustConvert(temp / "src", temp / "dst", {.encode = Target("int4:g16")});
  const auto checkpoint = MustOpen(temp / "dst");
  Core core = checkpoint->factored()[0].terms[0].cores[0];
  BlockRowsBuffer buffer;
  const auto code = [&](int64_t begin, int64_t end, int64_t cols) {
    return checkpoint->ReadBlockRows(core, begin, end, cols, &buffer).code();
  };
  EXPECT_EQ(code(0, 32, 32), absl::StatusCode::kOk);
  EXPECT_EQ(code(32, 32, 32), absl::StatusCode::kOk);
  EXPECT_EQ(code(0, 33, 32), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(-1, 3, 32), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(3, 2, 32), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(0, 1, 34), absl::StatusCode::kInvalidArgument);
  core.encoding.scale = ScaleKind::kF32;
  EXPECT_EQ(code(0, 1, 32), absl::StatusCode::kInvalidArgument);
  core.encoding = Encoding::Float(DType::kF32);
  EXPECT_EQ(code(0, 1, 32), absl::StatusCode::kInvalidArgument);
  core = checkpoint->factored()[0].terms[0].cores[0];
  core.tensors.pop_back();
  EXPECT_EQ(code(0, 1, 32), absl::StatusCode::kInvalidArgument);
}

TEST(ConvertEncode, WeightsThatDoNotFitNameTheTensor) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  Rewrite(temp / "src", temp / "big", {}, [&](const std::string& tensor, std::string* bytes) {
    const float big = 1e9f;
    if (tensor == name) std::memcpy(bytes->data() + 4 * (7 * 32 + 20), &big, 4);
  });
  const auto source = MustOpen(temp / "big");
  const auto report = ConvertModel(*source, temp / "dst", {.encode = Target("int4:g16")});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr(name), HasSubstr("row 7: the scale of group 1")));
  EXPECT_FALSE(std::filesystem::exists(temp / "dst"));
}

TEST(EncodingMap, ReadsLinesAndJson) {
  TempFolder temp;
  WriteWholeFile(temp / "lines", "# comment\n\n mlp\\.up  int4:g32 \r\nattn\tkeep\n");
  auto rules = ReadEncodingMap(temp / "lines");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 2u);
  EXPECT_EQ((*rules)[0].expression, "mlp\\.up");
  EXPECT_EQ(EncodingName((*rules)[0].target.encoding), "int4:g32");
  EXPECT_TRUE((*rules)[1].target.keep);
  WriteWholeFile(temp / "json", R"( {"b": "int8:g64", "a": "bf16"})");
  rules = ReadEncodingMap(temp / "json");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 2u);
  EXPECT_EQ((*rules)[0].expression, "b");
}

TEST(EncodingMap, NamesTheFault) {
  TempFolder temp;
  const auto error_of = [&](const std::string& text) {
    WriteWholeFile(temp / "map", text);
    return std::string(ReadEncodingMap(temp / "map").status().message());
  };
  EXPECT_THAT(error_of("\nmlp\n"), AllOf(HasSubstr("map: line 2"), HasSubstr("an encoding")));
  EXPECT_THAT(error_of("mlp int4:g64 more\n"), HasSubstr("line 1"));
  EXPECT_THAT(error_of("mlp int9\n"), AllOf(HasSubstr("line 1"), HasSubstr("\"int9\"")));
  EXPECT_THAT(error_of("mlp( int4\n"), AllOf(HasSubstr("line 1"), HasSubstr("'mlp('")));
  EXPECT_THAT(error_of("mlp e8p:g64\n"), HasSubstr("e8p"));
  EXPECT_THAT(error_of("# nothing\n"), HasSubstr("holds no rules"));
  EXPECT_THAT(error_of("{\"a\": 4}"), HasSubstr("expected a string"));
  EXPECT_THAT(error_of("{\"a\": \"int4\""), HasSubstr("map"));
  EXPECT_EQ(ReadEncodingMap(temp / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rankine
