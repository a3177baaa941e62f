"""Writes tests/data/smollm2_gguf_rows.bin: some rows of SmolLM2-135M-Instruct.Q4_1.gguf as gguf-py decodes them.

Run: RANKINE_TEST_GGUF=... python tests/testing/generators/smollm2_gguf_rows.py   (needs numpy and gguf)

Little-endian records until the end: u32 length of the Hugging Face name, the name, u32 row, u32 columns, f32 values.
The rows of q and k are put back into Hugging Face order.
"""

import os
import pathlib
import struct

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

HEADS, KV_HEADS = 9, 3
# (GGUF name, Hugging Face name, heads whose rows the converter interleaved, rows)
ROWS = [
    ("token_embd", "model.embed_tokens", 0, [0, 1, 49151]),
    ("blk.0.attn_q", "model.layers.0.self_attn.q_proj", HEADS, [0, 1, 31, 32, 63, 64, 575]),
    ("blk.29.attn_k", "model.layers.29.self_attn.k_proj", KV_HEADS, [0, 1, 33, 96, 191]),
    ("blk.7.attn_v", "model.layers.7.self_attn.v_proj", 0, [1, 191]),
    ("blk.7.attn_output", "model.layers.7.self_attn.o_proj", 0, [3]),
    ("blk.12.ffn_gate", "model.layers.12.mlp.gate_proj", 0, [1535]),
    ("blk.12.ffn_up", "model.layers.12.mlp.up_proj", 0, [2]),
    ("blk.12.ffn_down", "model.layers.12.mlp.down_proj", 0, [575]),
    ("blk.5.attn_norm", "model.layers.5.input_layernorm", 0, [0]),
    ("output_norm", "model.norm", 0, [0]),
]


def main():
    tensors = {t.name: t for t in GGUFReader(os.environ["RANKINE_TEST_GGUF"]).tensors}
    out = bytearray()
    for gguf_name, hf_name, heads, rows in ROWS:
        tensor = tensors[gguf_name + ".weight"]
        w = dequantize(tensor.data, tensor.tensor_type)
        if heads:
            d, n = w.shape[0] // heads, w.shape[1]
            w = w.reshape(heads, d // 2, 2, n).swapaxes(1, 2).reshape(heads * d, n)
        w = np.atleast_2d(w)
        name = (hf_name + ".weight").encode()
        for row in rows:
            out += struct.pack("<I", len(name)) + name + struct.pack("<2I", row, w.shape[1])
            out += np.ascontiguousarray(w[row], dtype="<f4").tobytes()
    path = pathlib.Path(__file__).resolve().parents[2] / "data" / "smollm2_gguf_rows.bin"
    path.write_bytes(out)
    print(path.name, len(out), "bytes")


if __name__ == "__main__":
    main()
