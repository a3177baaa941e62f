// All ops of a device or an instruction set, as plain function pointers: filled once, then only
// read. `ref` is the naive oracle of every test; the CPU tables are chosen at run time by the
// features of the machine.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/api/attention.h"
#include "kernels/api/elementwise.h"
#include "kernels/api/hadamard.h"
#include "kernels/api/packed_core.h"
#include "kernels/api/products.h"

namespace rankine {

struct OpTable {
  const char* name = "";
  void (*pack_rows)(const PackRowsArgs&) = nullptr;
  void (*pack_blocks)(const PackBlocksArgs&) = nullptr;
  void (*gather_rows)(const GatherRowsArgs&, Stream) = nullptr;
  void (*products)(const ProductsArgs&, Stream) = nullptr;
  void (*rms_norm)(const RmsNormArgs&, Stream) = nullptr;
  void (*silu_mul)(const SiluMulArgs&, Stream) = nullptr;
  void (*layer_norm)(const LayerNormArgs&, Stream) = nullptr;
  void (*gelu)(const GeluArgs&, Stream) = nullptr;
  void (*convert)(const ConvertArgs&, Stream) = nullptr;
  void (*hadamard)(const HadamardArgs&, Stream) = nullptr;
  void (*permute)(const PermuteArgs&, Stream) = nullptr;
  void (*add)(const AddArgs&, Stream) = nullptr;
  void (*rope_append)(const RopeAppendArgs&, Stream) = nullptr;
  void (*attention)(const AttentionArgs&, Stream) = nullptr;
};

// Naive, float32 or double, single thread.
const OpTable& RefOps();

// The tables that this machine can run, best last: "avx2", "avx512", "avx512-vnni", "avx512-bf16"
// (with VNNI too), which is better than the former where its dot product is fast, and "amx".
const std::vector<const OpTable*>& CpuOpTables();

// The one of them called `name`; null when this machine can't run it or there is none of that name.
const OpTable* FindCpuOps(std::string_view name);
// The best of them. The binary's baseline guarantees that there is one.
const OpTable& BestCpuOps();

}  // namespace rankine
