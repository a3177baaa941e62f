// Which op tables this machine can run. The features are asked of the CPU and of the system: libgcc
// reports AVX-512 only where the operating system saves its registers (XCR0).
#include "kernels/base/check.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/op_table.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }
bool HasAvx512Bf16() { return HasAvx512Vnni() && __builtin_cpu_supports("avx512bf16"); }
// Whether vdpbf16ps, which adds two products, starts as often as a multiply-add. Intel's cores
// (Sapphire Rapids) start one in two cycles where they start two multiply-adds a cycle: products of
// 2 x the speed if weights are widened to f32 instead, which is exact.
bool HasFastBf16Dot() { return __builtin_cpu_is("amd"); }

OpTable MakeRef() {
  OpTable table{.name = "ref"};
  FillRefPacking(&table);
  FillRefProducts(&table);
  FillRefElementwise(&table);
  FillRefAttention(&table);
  return table;
}

OpTable MakeAvx2() {
  OpTable table{.name = "avx2"};
  FillPackingAvx2(&table);
  FillProductsAvx2(&table);
  FillElementwiseAvx2(&table);
  FillHadamardAvx2(&table);
  FillLayerNormGeluAvx2(&table);
  FillAttentionAvx2(&table);
  return table;
}

OpTable MakeAvx512() {
  OpTable table{.name = "avx512"};
  FillPackingAvx512(&table);
  FillProductsAvx512(&table);
  FillElementwiseAvx512(&table);
  FillHadamardAvx512(&table);
  FillLayerNormGeluAvx512(&table);
  FillAttentionAvx512(&table);
  return table;
}

OpTable MakeAvx512Vnni() {
  OpTable table = MakeAvx512();
  table.name = "avx512-vnni";
  FillProductsAvx512Vnni(&table);
  return table;
}

OpTable MakeAvx512Bf16() {
  OpTable table = MakeAvx512();
  table.name = "avx512-bf16";
  FillProductsAvx512Bf16(&table);
  return table;
}

OpTable MakeAmx() {
  OpTable table = MakeAvx512();
  table.name = "amx";
  FillProductsAmx(&table);
  return table;
}

}  // namespace

const OpTable& RefOps() {
  static const OpTable table = MakeRef();
  return table;
}

const std::vector<const OpTable*>& CpuOpTables() {
  static const OpTable avx2 = MakeAvx2();
  static const OpTable avx512 = MakeAvx512();
  static const OpTable avx512_vnni = MakeAvx512Vnni();
  static const OpTable avx512_bf16 = MakeAvx512Bf16();
  static const OpTable amx = MakeAmx();
  static const std::vector<const OpTable*> tables = [] {
    std::vector<const OpTable*> usable;
    if (HasAvx2()) usable.push_back(&avx2);
    if (HasAvx512()) usable.push_back(&avx512);
    if (HasAvx512Bf16() && !HasFastBf16Dot()) usable.push_back(&avx512_bf16);
    if (HasAvx512Vnni()) usable.push_back(&avx512_vnni);
    if (HasAvx512Bf16() && HasFastBf16Dot()) usable.push_back(&avx512_bf16);
    if (HasAvx512Vnni() && HasAmx()) usable.push_back(&amx);
    return usable;
  }();
  return tables;
}

const OpTable* FindCpuOps(std::string_view name) {
  for (const OpTable* table : CpuOpTables()) {
    if (name == table->name) return table;
  }
  return nullptr;
}

const OpTable& BestCpuOps() {
  RK_CHECK(!CpuOpTables().empty());
  return *CpuOpTables().back();
}

}  // namespace rankine
