#include "tools/compress/methods/caldera.h"

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/hadamard.h"
#include "tools/compress/methods/q_lr_search.h"
#include "tools/compress/methods/q_plus_lr.h"

namespace rankine {
namespace {

// "model.layers.0.mlp" of "model.layers.0.mlp.up_proj".
std::string ParentOf(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? name : name.substr(0, dot);
}

// FNV-1a: each transform has signs of its own, whatever else is factored.
uint64_t SeedOf(const std::string& name, int64_t seed) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : absl::StrCat(seed, " ", name)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  }
  return hash;
}

// A transform and the tensors that hold it.
struct StoredTransform {
  HadamardTransform transform;
  Transform reference;
  std::vector<StoredTensor> tensors;
  bool stored = false;  // by one of the matrices
};

class JointCaldera {
 public:
  explicit JointCaldera(absl::Span<const MethodInput> inputs) : inputs_(inputs) {
    const MethodSettings& settings = *inputs[0].settings;
    base_ = settings.EncodingOf("base-encode");
    hadamard_ = settings.Integer("hadamard") == 1;
    options_ = {.base = base_,
                .factors = inputs[0].encoding,
                .iterations = settings.Integer("iterations"),
                .ldlq = settings.Integer("ldlq") == 1,
                .passes = settings.Integer("passes"),
                .damping = settings.Number("damping")};
  }

  absl::StatusOr<std::vector<Factorization>> Run() {
    std::vector<Factorization> results;
    for (const MethodInput& input : inputs_) {
      auto result = FactorizeOne(input);
      if (!result.ok() && input.name == inputs_[0].name) return result.status();
      if (!result.ok()) {
        return absl::Status(result.status().code(),
                            absl::StrCat(input.name, ": ", result.status().message()));
      }
      results.push_back(*std::move(result));
    }
    return results;
  }

 private:
  struct Input {
    Matrix64 h;      // in the transformed basis
    LdlFactors ldl;  // of it, for L and R in blocks
  };

  absl::StatusOr<StoredTransform*> TransformOf(const MethodInput& input, bool output) {
    const int64_t features = output ? input.weight->rows : input.weight->cols;
    const std::string name =
        absl::StrCat(ParentOf(input.name), output ? ".outputs" : ".inputs", features);
    auto found = transforms_.find(name);
    if (found == transforms_.end()) {
      RK_ASSIGN_OR_RETURN(
          HadamardTransform transform,
          HadamardTransform::Random(features, SeedOf(name, input.settings->Integer("seed"))));
      StoredTransform stored{.transform = std::move(transform)};
      stored.reference = stored.transform.Store(name, output, &stored.tensors);
      found = transforms_.emplace(name, std::move(stored)).first;
    }
    return &found->second;
  }

  // Of all linears that read the same input once.
  absl::StatusOr<const Input*> InputOf(const MethodInput& input, const StoredTransform* transform) {
    std::unique_ptr<Input>& known = moments_[input.moments];
    if (known != nullptr) return known.get();
    auto made = std::make_unique<Input>();
    made->h = input.moments->second;
    RK_RETURN_IF_ERROR(CheckFinite(made->h));
    if (transform != nullptr) transform->transform.TransformMoments(&made->h);
    if (!input.encoding.IsFloat()) {
      RK_ASSIGN_OR_RETURN(made->ldl, BlockLdl(made->h, LdlWidth(input.encoding), kFactorsDamping));
    }
    known = std::move(made);
    return known.get();
  }

  static int64_t BitsOf(const StoredTransform& t) {
    int64_t bytes = 0;
    for (const StoredTensor& tensor : t.tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
    return t.stored ? 0 : 8 * bytes;
  }

  static void Store(StoredTransform* t, std::vector<Transform>* transforms,
                    std::vector<StoredTensor>* tensors) {
    transforms->push_back(t->reference);
    if (!t->stored) tensors->insert(tensors->end(), t->tensors.begin(), t->tensors.end());
    t->stored = true;
  }

  absl::StatusOr<Factorization> FactorizeOne(const MethodInput& input) {
    RK_CHECK(input.moments != nullptr);
    Matrix64 w = *input.weight;
    RK_RETURN_IF_ERROR(CheckFinite(w));
    RK_RETURN_IF_ERROR(CheckBase(base_, w.cols));
    StoredTransform *in = nullptr, *out = nullptr;
    if (hadamard_) {
      RK_ASSIGN_OR_RETURN(in, TransformOf(input, /*output=*/false));
      RK_ASSIGN_OR_RETURN(out, TransformOf(input, /*output=*/true));
      in->transform.TransformInputs(&w);
      out->transform.TransformOutputs(&w);
    }
    QLrOptions options = options_;
    const int64_t extra = hadamard_ ? BitsOf(*in) + BitsOf(*out) : 0;
    RK_ASSIGN_OR_RETURN(options.rank,
                        RankBesideBase(input.budget, w.rows, w.cols, base_, input.encoding, extra));
    RK_ASSIGN_OR_RETURN(const Input* x, InputOf(input, in));
    if (!input.encoding.IsFloat()) options.factors_ldl = &x->ldl;
    RK_ASSIGN_OR_RETURN(const QLr found, SearchQLr(w, x->h, options));
    RK_ASSIGN_OR_RETURN(Factorization result, StoreQPlusLr(input, base_, found.q, found.factors));
    if (!hadamard_) return result;
    Store(in, &result.matrix.input_transforms, &result.tensors);
    Store(out, &result.matrix.output_transforms, &result.tensors);
    return result;
  }

  absl::Span<const MethodInput> inputs_;
  Encoding base_;
  bool hadamard_ = true;
  QLrOptions options_;
  std::map<std::string, StoredTransform> transforms_;
  std::map<const Moments*, std::unique_ptr<Input>> moments_;
};

}  // namespace

absl::StatusOr<std::vector<Factorization>> FactorizeCaldera(absl::Span<const MethodInput> inputs) {
  RK_CHECK(!inputs.empty() && inputs[0].settings != nullptr);
  return JointCaldera(inputs).Run();
}

std::vector<std::vector<size_t>> JoinCaldera(absl::Span<const LinearShape> linears,
                                             const MethodSettings& /*settings*/) {
  std::map<std::pair<std::string, int64_t>, std::vector<size_t>> groups;
  for (size_t i = 0; i < linears.size(); ++i) {
    groups[{ParentOf(linears[i].name), linears[i].in_features}].push_back(i);
  }
  std::vector<std::vector<size_t>> joined;
  for (auto& [key, group] : groups) joined.push_back(std::move(group));
  return joined;
}

}  // namespace rankine
