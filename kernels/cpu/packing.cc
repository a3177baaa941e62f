// Packs weights into blocks of 16 outputs and gathers rows from them. Both are bound by memory, and
// AVX2, the baseline of the binary, reaches that bound; so all tables share them.
//
// In units of dwords (one f32, or a pair of 16-bit values) packing is a plain transposition: dword
// i of row r goes to dword i * 16 + r of the block, whatever the dtype.
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/block_packing.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/transpose.h"

namespace rankine {
namespace {

// Dwords [begin, end) of one row, to a lane of a block.
void PackLane(const char* row, int64_t begin, int64_t end, uint32_t* lane) {
  for (int64_t i = begin; i < end; ++i) std::memcpy(lane + i * 16, row + i * 4, 4);
}

// Eight rows to eight lanes.
void PackLanes8(const char* rows, int64_t stride_bytes, int64_t dwords, uint32_t* lanes) {
  int64_t i = 0;
  for (; i + 8 <= dwords; i += 8) Transpose8x8(rows + i * 4, stride_bytes, lanes + i * 16);
  for (int r = 0; r < 8; ++r) PackLane(rows + r * stride_bytes, i, dwords, lanes + r);
}

void PackRows(const PackRowsArgs& args) {
  const MatrixView& source = args.source;
  RK_CHECK(source.dtype == args.core.dtype && source.cols == args.core.k);
  RK_CHECK(args.row_offset >= 0 && args.row_offset + source.rows <= args.core.n);
  const int64_t element = static_cast<int64_t>(SizeOf(source.dtype));
  const int64_t dwords = source.cols * element / 4;
  const bool odd = source.cols * element % 4 != 0;
  const int64_t stride = source.stride * element;
  int64_t row = 0;
  while (row < source.rows) {
    const char* from = static_cast<const char*>(source.data) + row * stride;
    const int64_t to = args.row_offset + row;
    uint32_t* lane = reinterpret_cast<uint32_t*>(static_cast<char*>(args.core.data) +
                                                 to / kBlockRows * args.core.block_stride) +
                     to % kBlockRows;
    const int64_t rows = to % 8 == 0 && row + 8 <= source.rows ? 8 : 1;
    if (rows == 8) {
      PackLanes8(from, stride, dwords, lane);
    } else {
      PackLane(from, 0, dwords, lane);
    }
    // The last column of an odd number of 16-bit columns: half a dword; the buffer's zeros are the
    // other half.
    for (int64_t r = 0; odd && r < rows; ++r) {
      std::memcpy(lane + r + dwords * 16, from + r * stride + dwords * 4, 2);
    }
    row += rows;
  }
}

template <class T>
void Unpack16(const uint32_t* lane, int64_t k, float* out) {
  for (int64_t i = 0; i < k / 2; ++i) {
    const uint32_t pair = lane[i * 16];
    out[2 * i] = ToFloat(T{static_cast<uint16_t>(pair)});
    out[2 * i + 1] = ToFloat(T{static_cast<uint16_t>(pair >> 16)});
  }
  if (k % 2 != 0) out[k - 1] = ToFloat(T{static_cast<uint16_t>(lane[k / 2 * 16])});
}

void GatherRow(const PackedCore& core, int64_t row, float* out) {
  if (core.dtype == DType::kU8) return GatherBlockRow(core, row, out);
  const uint32_t* lane = reinterpret_cast<const uint32_t*>(static_cast<const char*>(core.data) +
                                                           row / kBlockRows * core.block_stride) +
                         row % kBlockRows;
  switch (core.dtype) {
    case DType::kF32:
      for (int64_t i = 0; i < core.k; ++i) std::memcpy(out + i, lane + i * 16, 4);
      break;
    case DType::kF16:
      Unpack16<F16>(lane, core.k, out);
      break;
    case DType::kBF16:
      Unpack16<BF16>(lane, core.k, out);
      break;
    default:
      RK_CHECK(!"packed cores are f32, f16, bf16 or block-encoded");
  }
  for (int64_t i = core.k; i < RoundUp(core.k, kColumnPad); ++i) out[i] = 0;
}

// A row touches one cache line per dword column: some 2 ns each, so from here on a barrier (about 1
// us) pays.
constexpr int64_t kColumnsWorthThreads = 4096;

void GatherRows(const GatherRowsArgs& args, Stream stream) {
  for (int64_t t = 0; t < args.num_ids; ++t) {
    RK_CHECK(args.ids[t] >= 0 && args.ids[t] < args.core.n);
  }
  WorkQueue queue(args.num_ids, 1);
  auto work = [&](int) {
    int64_t begin, end;
    while (queue.Next(&begin, &end))
      GatherRow(args.core, args.ids[begin], args.out.Row<float>(begin));
  };
  if (stream.pool == nullptr || args.num_ids * args.core.k < kColumnsWorthThreads) {
    work(0);
  } else {
    stream.pool->Run(work);
  }
}

}  // namespace

void FillPackingAvx2(OpTable* table) {
  table->pack_rows = PackRows;
  table->pack_blocks = PackBlocks;
  table->gather_rows = GatherRows;
}

void FillPackingAvx512(OpTable* table) { FillPackingAvx2(table); }

}  // namespace rankine
