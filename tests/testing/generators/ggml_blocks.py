"""Writes tests/data/ggml_blocks.bin: random blocks of every GGML type and what gguf-py decodes them to.

Run: python tests/testing/generators/ggml_blocks.py   (needs numpy and gguf)

Little-endian records until the end: u32 type, u32 number of blocks, u32 bytes per block, u32 values per block,
the blocks' bytes, the values as f32.
"""

import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# type -> byte offsets of its f16 scales within a block
HALF_OFFSETS = {
    T.F16: [0], T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
# Zero, minus zero, the smallest subnormal, the largest subnormal, the smallest normal, the largest, one, and signs.
EDGE_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00]


def finite_halves(rng, count):
    bits = rng.integers(0, 1 << 16, count * 2, dtype=np.uint16)
    return bits[(bits & 0x7C00) != 0x7C00][:count]


def make_blocks(rng, qtype):
    values, size = GGML_QUANT_SIZES[qtype]
    count = 64 if values == 1 else (24 if values == 32 else 14)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    # All codes and group scales zero, then all ones.
    blocks[0], blocks[1] = 0, 255
    for n, offset in enumerate(HALF_OFFSETS.get(qtype, [])):
        halves = finite_halves(rng, count).copy()
        edges = np.array(EDGE_HALVES, dtype=np.uint16)
        halves[2:2 + len(edges)] = np.roll(edges, 3 * n)
        blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(count, 2)
    if qtype == T.F32:
        floats = rng.standard_normal(count).astype(np.float32)
        floats[:4] = [0.0, -0.0, np.finfo(np.float32).max, np.float32(1e-45)]
        blocks = floats.view(np.uint8).reshape(count, 4)
    if qtype == T.BF16:
        bits = rng.integers(0, 0x7F80, count).astype(np.uint16) | (rng.integers(0, 2, count).astype(np.uint16) << 15)
        blocks = bits.astype(np.uint16).view(np.uint8).reshape(count, 2)
    return blocks


def main():
    rng = np.random.default_rng(20240611)
    out = bytearray()
    for qtype in [T.F32, *HALF_OFFSETS, T.BF16]:
        blocks = make_blocks(rng, qtype)
        values = np.ascontiguousarray(dequantize(blocks.reshape(1, -1), qtype), dtype=np.float32)
        assert np.isfinite(values).all(), qtype
        out += struct.pack("<4I", int(qtype), blocks.shape[0], blocks.shape[1], GGML_QUANT_SIZES[qtype][0])
        out += blocks.tobytes() + values.tobytes()
    path = pathlib.Path(__file__).resolve().parents[2] / "data" / "ggml_blocks.bin"
    path.write_bytes(out)
    print(path.name, len(out), "bytes")


if __name__ == "__main__":
    main()
