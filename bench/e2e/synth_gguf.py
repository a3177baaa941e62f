"""Writes a GGUF file of random weights in the shape of a known model, for llama.cpp and Rankine to read alike.

Usage: python synth_gguf.py OUT.gguf --shape llama-2-7b [--layers 8] [--type Q4_0] [--seed 0]

All matrices are of --type (BF16, F16, F32, or a block type that the gguf package can decode), norms are F32. Block
types get random bytes with scales such that activations keep their size. The vocabulary has the sizes and the special
tokens of Llama's, and made-up words.
"""

import argparse
import os
import sys

import gguf
import numpy as np

SHAPES = {
    "llama-2-7b": dict(hidden=4096, ffn=11008, layers=32, heads=32, kv_heads=32, vocab=32000, context=4096, theta=1e4,
                       tied=False),
    "llama-3-8b": dict(hidden=4096, ffn=14336, layers=32, heads=32, kv_heads=8, vocab=128256, context=8192, theta=5e5,
                       tied=False),
    "smollm2-135m": dict(hidden=576, ffn=1536, layers=30, heads=9, kv_heads=3, vocab=49152, context=8192, theta=1e5,
                         tied=True),
}
# Where a block has its f16 scales; their minima, which come after, follow them.
SCALES_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
             "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
FLOATS = ("F32", "F16", "BF16")
CHUNK_ELEMENTS = 1 << 24


def tensor_shapes(shape):
    """(name, [rows, columns] or [n]) of all tensors, in the order of use."""
    hidden, ffn, head = shape["hidden"], shape["ffn"], shape["hidden"] // shape["heads"]
    kv = shape["kv_heads"] * head
    yield "token_embd.weight", [shape["vocab"], hidden]
    for layer in range(shape["layers"]):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", [hidden]
        yield block + "attn_q.weight", [hidden, hidden]
        yield block + "attn_k.weight", [kv, hidden]
        yield block + "attn_v.weight", [kv, hidden]
        yield block + "attn_output.weight", [hidden, hidden]
        yield block + "ffn_norm.weight", [hidden]
        yield block + "ffn_gate.weight", [ffn, hidden]
        yield block + "ffn_up.weight", [ffn, hidden]
        yield block + "ffn_down.weight", [hidden, ffn]
    yield "output_norm.weight", [hidden]
    if not shape["tied"]:
        yield "output.weight", [shape["vocab"], hidden]


def random_floats(random, count, columns, kind):
    """Uniform, with variance 1 / columns, as the bytes of that type."""
    values = random.random(count, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32((12 / columns) ** 0.5)
    if kind == "F32":
        return values.view(np.uint8)
    if kind == "F16":
        return values.astype(np.float16).view(np.uint8)
    bits = values.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    return (bits >> 16).astype(np.uint16).view(np.uint8)


def with_scales(blocks, kind, scale):
    """Sets the scales of random blocks. The sign of half of them is changed: then no mean is left."""
    signs = np.where(np.arange(len(blocks)) % 2 == 0, 1, -1)
    for k, at in enumerate(SCALES_AT[kind]):
        sign = signs if k == 0 or not kind.endswith("_1") else -signs
        blocks[:, at:at + 2] = (sign * scale).astype(np.float16).reshape(-1, 1).view(np.uint8)
    return blocks


def unit_scale(kind):
    """The scale by which the values of random blocks have variance 1."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = np.random.default_rng(1).integers(0, 256, (4096, size), dtype=np.uint8)
    values = gguf.quants.dequantize(with_scales(blocks, kind, 1.0), gguf.GGMLQuantizationType[kind])
    return 1 / float(np.std(values))


def chunks(random, shape, kind):
    """The bytes of a matrix, some rows at a time."""
    rows, columns = shape
    step = max(1, CHUNK_ELEMENTS // columns)
    scale = None if kind in FLOATS else unit_scale(kind) / columns**0.5
    for begin in range(0, rows, step):
        count = (min(rows, begin + step) - begin) * columns
        if kind in FLOATS:
            yield random_floats(random, count, columns, kind)
            continue
        elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        blocks = np.frombuffer(random.bytes(count // elements * size), np.uint8).reshape(-1, size).copy()
        yield with_scales(blocks, kind, scale).reshape(-1)


def add_vocabulary(writer, size):
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    words = size - len(tokens)
    tokens += [f"\u2581w{k}" for k in range(words)]
    types += [gguf.TokenType.NORMAL] * words
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(k) for k in range(words)])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_config(writer, shape, name, kind):
    writer.add_name(f"random {name}")
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"]
                         if kind in FLOATS + ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0") else gguf.LlamaFileType.GUESSED)
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(shape["theta"])
    writer.add_rope_dimension_count(shape["hidden"] // shape["heads"])
    writer.add_vocab_size(shape["vocab"])


def add_tensor_infos(writer, tensors, kind):
    for name, extents in tensors:
        stored = kind if len(extents) == 2 else "F32"
        elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[stored]]
        if extents[-1] % elements:
            sys.exit(f"error: {name}: rows of {extents[-1]} are no whole blocks of {kind}")
        count = int(np.prod(extents)) // elements * size
        writer.add_tensor_info(name, extents, np.dtype(np.float32), count, raw_dtype=gguf.GGMLQuantizationType[stored])


def write(path, name, layers=None, kind="BF16", seed=0):
    """Writes the file, whole or not at all."""
    shape = dict(SHAPES[name], **({"layers": layers} if layers else {}))
    tensors = list(tensor_shapes(shape))
    partial = path + ".partial"
    writer = gguf.GGUFWriter(partial, "llama")
    add_config(writer, shape, name, kind)
    add_vocabulary(writer, shape["vocab"])
    add_tensor_infos(writer, tensors, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    out = writer.fout[0]
    random = np.random.default_rng(seed)
    for _, extents in tensors:
        writer.write_padding(out, out.tell())
        if len(extents) == 1:
            out.write(np.ones(extents, np.float32).tobytes())
            continue
        for chunk in chunks(random, extents, kind):
            out.write(chunk.data)
    writer.write_padding(out, out.tell())
    writer.close()
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--type", choices=[*FLOATS, *SCALES_AT], default="BF16")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.layers is not None and args.layers < 1:
        parser.error("--layers must be positive")
    write(args.out, args.shape, args.layers, args.type, args.seed)


if __name__ == "__main__":
    main()
