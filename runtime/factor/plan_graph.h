// The operations of a group as a graph, before they are scheduled: nodes that read a value and
// write one. Internal to group_layout.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/factor/group_layout.h"

namespace rankine {

// Activations of a token: `columns` in rows of `row_columns`, and where they lie once placed.
struct PlanValue {
  DType dtype = DType::kF32;
  int64_t columns = 0;
  int64_t stride = 0;  // i8: bytes
  int64_t zero_from = -1;
  // From one row of the step that reads it to the next, where that is more than its k; else 0.
  int64_t row_stride = 0;
  int level = 0;  // of the first step that may read it
  bool stackable =
      false;  // it may stand beside others in a slot: whoever reads it takes any stride
  int slot = -1;
  int64_t column = 0;
};

struct PlanNode {
  StepKind kind = StepKind::kProducts;
  int level = 0;
  int x = 0, y = 0;
  // Products:
  int matrix = 0, term = 0;
  const LoweredStep* step = nullptr;
  PlanProduct product;
  std::string bias_tensor;
  // Others:
  PlanElementwise elementwise;
  int quantized = -1;  // kHadamard: the value of y as i8
};

// Builds the nodes of all matrices.
class PlanGraph {
 public:
  PlanGraph(absl::Span<const FactoredMatrix> matrices, absl::Span<const MatrixChoice> choices,
            const PlannerOptions& options);

  std::vector<PlanValue>& values() { return values_; }
  std::vector<PlanNode>& nodes() { return nodes_; }
  std::vector<VectorRecipe>& vectors() { return vectors_; }
  std::vector<IndexRecipe>& index_lists() { return index_lists_; }
  const std::vector<int64_t>& output_columns() const { return output_columns_; }
  int64_t total_output_columns() const { return total_output_columns_; }

 private:
  void AddMatrix(int index);
  // A term, into `target`; `first`: nothing has been written there. Returns the target; where it is
  // -1, a value that the term chooses.
  int AddTerm(int matrix, int term, int input, int target, bool first);
  // A term that ends with a core with a leading identity: a new value, whose first columns are what
  // the product before that core writes.
  int AddPivotedTerm(int matrix, int term, int input);
  // One product; its result: the target, or where that is -1 a new value, or the one that another
  // matrix has already from the same x and the same core.
  int AddStep(int matrix, int term, size_t index, int x, int target, bool first);
  // The new value that step `index` of a term writes for the next step, which sets its form; *run
  // as in a product.
  PlanValue ResultOf(const Lowering& lowering, size_t index, int64_t* run) const;
  int Transformed(absl::Span<const Transform> transforms, int value);
  // The last transform of a matrix's outputs, added to where the output lies.
  void TransformInto(const Transform& transform, int value, int output, const FactoredMatrix& m);
  PlanNode HadamardNode(const Transform& transform, int value);
  // `value` as `step` reads it: gathered, quantised or rounded. *row_columns: stride of its rows.
  int Prepared(const LoweredStep& step, const TermLegs& legs, int value, int64_t* row_columns);
  int Gathered(const TermLegs& legs, const std::vector<int>& from, const std::vector<int>& rows,
               const std::vector<int>& columns, int value, int64_t* row_columns);
  int Converted(int value, DType dtype, bool wide, int64_t rows, int64_t columns,
                int64_t* row_columns);
  // The i8 form of what a Hadamard transform writes, by the same step; -1 where none writes it.
  int QuantizedByTransform(int value, const PlanValue& form);
  void AddTo(int value, int target, const std::string& bias_tensor, bool accumulate);
  int NewValue(PlanValue value);
  // Schedules a node after what it reads and what has been written to where it writes.
  int Write(PlanNode node);
  int NewVector(const std::string& tensor, int64_t size);

  absl::Span<const FactoredMatrix> matrices_;
  absl::Span<const MatrixChoice> choices_;
  const PlannerOptions& options_;
  std::vector<PlanValue> values_;
  std::vector<PlanNode> nodes_;
  std::vector<VectorRecipe> vectors_;
  std::vector<IndexRecipe> index_lists_;
  std::vector<int64_t> output_columns_;
  int64_t total_output_columns_ = 0;
  // What a step's value depends on beside x; empty where others must not take it.
  std::string KeyOfResult(int matrix, int term, const LoweredStep& step, const PlanNode& node,
                          const PlanValue& result) const;
  std::map<std::string, int> transformed_;  // by the transforms
  std::map<std::string, int> shared_;       // by KeyOfResult
  std::map<std::tuple<int, DType, bool, int64_t, int64_t>, int> converted_;
};

}  // namespace rankine
