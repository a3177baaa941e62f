// ExportFactors: factors under the names that other programs use.
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/float_convert.h"
#include "models/layout.h"
#include "models/status_macros.h"
#include "tools/export/export.h"
#include "tools/export/export_writer.h"

namespace rankine {
namespace {

// The legs of a core as stored are just these, whole.
bool HasLegs(const Core& core, const std::vector<std::string>& names) {
  if (core.legs.size() != names.size() || core.leading_identity) return false;
  for (size_t i = 0; i < names.size(); ++i) {
    const LegRange& leg = core.legs[i];
    const bool whole =
        leg.offset == 0 && (leg.stored_extent == 0 || leg.stored_extent == leg.extent);
    if (leg.name != names[i] || !whole) return false;
  }
  return true;
}

// left [o, r], maybe scales [r], right [r, i].
struct Product {
  const Core* left = nullptr;
  const Core* scales = nullptr;
  const Core* right = nullptr;
};

// False when the term is no such product.
bool ReadProduct(const Term& term, const std::string& out, const std::string& in, Product* p) {
  if (term.cores.size() < 2 || term.cores.size() > 3) return false;
  *p = {};
  for (const Core& core : term.cores) {
    if (core.legs.size() == 1) {
      p->scales = &core;
    } else if (core.legs.size() == 2 && core.legs[0].name == out) {
      p->left = &core;
    } else if (core.legs.size() == 2 && core.legs[1].name == in) {
      p->right = &core;
    }
  }
  if (p->left == nullptr || p->right == nullptr) return false;
  if ((p->scales != nullptr) != (term.cores.size() == 3)) return false;
  const std::string& bond = p->left->legs[1].name;
  return HasLegs(*p->left, {out, bond}) && HasLegs(*p->right, {bond, in}) &&
         (p->scales == nullptr || HasLegs(*p->scales, {bond}));
}

class FactorExport {
 public:
  FactorExport(const Checkpoint& source, const ExportOptions& options)
      : source_(source), options_(options) {
    for (const FactoredMatrix& matrix : source.factored()) factored_.emplace(matrix.name, &matrix);
  }

  absl::StatusOr<ExportReport> Run(const std::string& out, const ConvertProgress& progress) {
    const ModelConfig& config = source_.config();
    for (const TensorInfo& tensor : source_.tensors()) report_.source_bytes += tensor.stored_bytes;
    const ModelLayout layout = LayoutOf(config);
    for (const LinearSpec& table : layout.embeddings) RK_RETURN_IF_ERROR(AddLinear(table));
    for (const LinearSpec& linear : layout.linears) RK_RETURN_IF_ERROR(AddLinear(linear));
    for (const VectorSpec& vector : layout.vectors) {
      if (vector.optional && source_.Find(vector.name) == nullptr) continue;
      RK_RETURN_IF_ERROR(Copy(vector.name, vector.name));
    }
    if (report_.factored == 0) {
      return absl::FailedPreconditionError(
          "the model has no factors; rankine convert copies a dense model");
    }
    RK_RETURN_IF_ERROR(
        WriteExport(source_, out, config, dtype_, tensors_, progress, &report_.bytes));
    return report_;
  }

 private:
  static absl::Status CannotExport(const FactoredMatrix& matrix, const std::string& why) {
    return absl::UnimplementedError(absl::StrCat("matrix ", matrix.name, " ", why,
                                                 ", which has no name elsewhere: use --densify"));
  }

  // Bit for bit under another name.
  absl::Status Copy(const std::string& from, const std::string& to) {
    const TensorInfo* tensor = source_.Find(from);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", from, " is missing"));
    }
    tensors_.push_back(CopyOf(source_, *tensor, to, tensor->natural_dtype));
    if (tensor->shape.size() == 2) dtype_ = tensor->natural_dtype;
    return absl::OkStatus();
  }

  absl::Status AddLinear(const LinearSpec& linear) {
    const auto found = factored_.find(linear.name);
    if (found == factored_.end()) {
      if (linear.optional && source_.Find(linear.weight()) == nullptr) return absl::OkStatus();
      RK_RETURN_IF_ERROR(Copy(linear.weight(), linear.weight()));
      return linear.has_bias ? Copy(linear.bias(), linear.bias()) : absl::OkStatus();
    }
    const FactoredMatrix& matrix = *found->second;
    for (const Term& term : matrix.terms) {
      for (const Core& core : term.cores) {
        if (core.encoding.IsFloat()) continue;
        return absl::UnimplementedError(absl::StrCat(
            "matrix ", matrix.name, ": core ", core.name,
            " is block-encoded, and other programs know no such tensors; decode it first (rankine "
            "convert IN OUT --encode bf16), or use --densify"));
      }
    }
    if (matrix.output_legs.size() != 1 || matrix.input_legs.size() != 1) {
      return CannotExport(matrix, "has several legs on a side");
    }
    if (IsDense(matrix)) return AddDense(linear, matrix);
    ++report_.factored;
    return matrix.terms.size() == 1 ? AddProduct(matrix) : AddQlr(matrix);
  }

  absl::Status AddDense(const LinearSpec& linear, const FactoredMatrix& matrix) {
    const Core& core = matrix.terms[0].cores[0];
    if (!HasLegs(core, {matrix.output_legs[0].name, matrix.input_legs[0].name})) {
      return CannotExport(matrix, "is stored in another order of legs");
    }
    RK_RETURN_IF_ERROR(Copy(core.TensorOf("values"), linear.weight()));
    return matrix.bias_tensor.empty() ? absl::OkStatus() : Copy(matrix.bias_tensor, linear.bias());
  }

  absl::Status AddProduct(const FactoredMatrix& matrix) {
    Product p;
    if (!matrix.input_transforms.empty() || !matrix.output_transforms.empty()) {
      return CannotExport(matrix, "has transforms");
    }
    if (!ReadProduct(matrix.terms[0], matrix.output_legs[0].name, matrix.input_legs[0].name, &p)) {
      return CannotExport(matrix, "is no product of two factors [o, r] and [r, i]");
    }
    const std::string left = matrix.name + ".ALinear.weight";
    if (p.scales != nullptr && options_.fold_scales) {
      RK_RETURN_IF_ERROR(AddScaled(p, left));
    } else {
      RK_RETURN_IF_ERROR(Copy(p.left->TensorOf("values"), left));
      if (p.scales != nullptr) {
        RK_RETURN_IF_ERROR(Copy(p.scales->TensorOf("values"), matrix.name + ".S"));
      }
    }
    RK_RETURN_IF_ERROR(Copy(p.right->TensorOf("values"), matrix.name + ".BLinear.weight"));
    return matrix.bias_tensor.empty() ? absl::OkStatus()
                                      : Copy(matrix.bias_tensor, matrix.name + ".ALinear.bias");
  }

  // left diag(scales), rounded once to the dtype of left.
  absl::Status AddScaled(const Product& p, const std::string& name) {
    const TensorInfo* left = source_.Find(p.left->TensorOf("values"));
    const TensorInfo* scales = source_.Find(p.scales->TensorOf("values"));
    const DType dtype = left->natural_dtype;
    const auto write = [this, left, scales, dtype](const AppendBytes& append) {
      const int64_t rank = left->shape[1];
      std::vector<float> s(static_cast<size_t>(rank)), row(static_cast<size_t>(rank));
      std::vector<char> out(static_cast<size_t>(rank) * SizeOf(dtype));
      RK_RETURN_IF_ERROR(source_.ReadRows(*scales, 0, 1, DType::kF32, s.data()));
      for (int64_t r = 0; r < left->shape[0]; ++r) {
        RK_RETURN_IF_ERROR(source_.ReadRows(*left, r, r + 1, DType::kF32, row.data()));
        for (int64_t k = 0; k < rank; ++k) row[k] *= s[k];
        if (ConvertFloats(DType::kF32, row.data(), dtype, out.data(), rank) >= 0) {
          return absl::InvalidArgumentError(absl::StrCat("tensor ", left->name, ", row ", r,
                                                         ": times the singular values it does not "
                                                         "fit in ",
                                                         Name(dtype).data()));
        }
        RK_RETURN_IF_ERROR(append(out.data(), static_cast<int64_t>(out.size())));
      }
      return absl::OkStatus();
    };
    tensors_.push_back({.spec = {name, dtype, left->shape}, .write = write});
    return absl::OkStatus();
  }

  absl::Status AddQlr(const FactoredMatrix& matrix) {
    const std::string out = matrix.output_legs[0].name, in = matrix.input_legs[0].name;
    Product p;
    const std::vector<Term>& terms = matrix.terms;
    if (terms.size() != 2 || terms[0].cores.size() != 1 || !HasLegs(terms[0].cores[0], {out, in}) ||
        !ReadProduct(terms[1], out, in, &p) || p.scales != nullptr) {
      return CannotExport(matrix, "is no sum of a dense Q [o, i] and a product L R");
    }
    RK_RETURN_IF_ERROR(Copy(terms[0].cores[0].TensorOf("values"), matrix.name + ".Q.weight"));
    RK_RETURN_IF_ERROR(Copy(p.left->TensorOf("values"), matrix.name + ".L.weight"));
    RK_RETURN_IF_ERROR(Copy(p.right->TensorOf("values"), matrix.name + ".R.weight"));
    RK_RETURN_IF_ERROR(AddRotation(matrix, matrix.input_transforms, false, ".SU"));
    RK_RETURN_IF_ERROR(AddRotation(matrix, matrix.output_transforms, true, ".SV"));
    return matrix.bias_tensor.empty() ? absl::OkStatus()
                                      : Copy(matrix.bias_tensor, matrix.name + ".bias");
  }

  absl::Status AddRotation(const FactoredMatrix& matrix, const std::vector<Transform>& transforms,
                           bool transposed, const char* suffix) {
    if (transforms.empty()) return absl::OkStatus();
    const Transform& t = transforms[0];
    if (transforms.size() > 1 || t.kind != Transform::Kind::kHadamard || !t.block_tensor.empty() ||
        t.transposed != transposed) {
      return CannotExport(matrix, "has transforms that are no signs with Sylvester's matrix");
    }
    return Copy(t.tensor, matrix.name + suffix);
  }

  const Checkpoint& source_;
  const ExportOptions& options_;
  std::unordered_map<std::string, const FactoredMatrix*> factored_;
  std::vector<ExportTensor> tensors_;
  DType dtype_ = DType::kBF16;  // what config.json says: that of a matrix
  ExportReport report_;
};

}  // namespace

absl::StatusOr<ExportReport> ExportFactors(const Checkpoint& source, const std::string& out,
                                           const ExportOptions& options,
                                           const ConvertProgress& progress) {
  return FactorExport(source, options).Run(out, progress);
}

}  // namespace rankine
