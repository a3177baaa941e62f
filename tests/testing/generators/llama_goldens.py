"""Writes tests/data/llama: small random Llama models with the logits that transformers gives in float32, and
SmolLM2's logits and greedy continuations.

Usage: python llama_goldens.py OUT [SmolLM2-135M-Instruct.Q4_1.gguf]
"""

import json
import os
import sys

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BASE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=96, max_position_embeddings=128, rms_norm_eps=1e-5,
            tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)

CONFIGS = {
    "gqa_tied": {},
    "untied_linear_rope": dict(tie_word_embeddings=False,
                               rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0)),
    "llama3_rope": dict(head_dim=16, rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    "biases": dict(attention_bias=True, mlp_bias=True),
    "odd_sizes": dict(hidden_size=36, intermediate_size=50, num_attention_heads=3, num_key_value_heads=3,
                      head_dim=10, vocab_size=101, tie_word_embeddings=False),
}

PROMPTS = [
    "def fibonacci(n):",
    "The capital of France is",
    "import os\nimport sys\n\ndef main():\n",
    "Once upon a time, in a small village by the sea,",
    "class Stack:\n    def __init__(self):",
    "Water boils at a temperature of",
    "for i in range(10):\n    print(",
    "The three primary colours are",
]
NEW_TOKENS = 64


def randomise(model, seed):
    """Weights large enough that every part of the network matters to the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data = 1 + 0.2 * torch.randn(p.shape, generator=generator)
        else:
            p.data = torch.randn(p.shape, generator=generator) * (0.7 if "embed" in name else 0.2)


def old_style(folder):
    """Rewrites config.json as older transformers wrote it: rope_theta and rope_scaling."""
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else {
        ("type" if k == "rope_type" else k): v for k, v in rope.items()}
    json.dump(config, open(path, "w"), indent=1)


def write_small(out):
    for index, (name, changes) in enumerate(CONFIGS.items()):
        torch.manual_seed(index)
        model = LlamaForCausalLM(LlamaConfig(**{**BASE, **changes})).eval().float()
        randomise(model, index)
        folder = os.path.join(out, name)
        model.save_pretrained(folder)
        tokens = torch.randint(0, model.config.vocab_size, (1, 80), generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            logits = model(tokens).logits[0].double().numpy().astype("<f4")
        json.dump(tokens[0].tolist(), open(os.path.join(folder, "tokens.json"), "w"))
        logits.tofile(os.path.join(folder, "logits.bin"))
        for extra in ("generation_config.json",):
            path = os.path.join(folder, extra)
            if os.path.exists(path):
                os.remove(path)
        if name in ("untied_linear_rope",):
            old_style(folder)


def load_gguf(path):
    """SmolLM2 in float32 from the GGUF's blocks, with llama.cpp's permutation of q and k undone."""
    import gguf
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields["llama." + key].contents()
    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(
        hidden_size=field("embedding_length"), intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"), num_attention_heads=heads, num_key_value_heads=kv_heads,
        vocab_size=49152, max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=field("rope.freq_base")))
    model = LlamaForCausalLM(config).float().eval()
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for tensor in reader.tensors:
        w = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                h = heads if parts[2] == "attn_q" else kv_heads
                w = w.reshape(h, w.shape[0] // h // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            name = f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = torch.from_numpy(np.ascontiguousarray(w))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def write_smollm2(out, path):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path))
    model = load_gguf(path)
    golden = {"prompts": []}
    for prompt in PROMPTS:
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        tokens, margins = list(ids), []
        with torch.no_grad():
            cache = None
            inputs = torch.tensor([ids])
            for step in range(NEW_TOKENS):
                result = model(inputs, past_key_values=cache, use_cache=True)
                cache = result.past_key_values
                row = result.logits[0, -1]
                if step == 0:
                    first = row.double().numpy()
                top = torch.topk(row, 2)
                margins.append(float(top.values[0] - top.values[1]))
                tokens.append(int(top.indices[0]))
                inputs = torch.tensor([[tokens[-1]]])
        golden["prompts"].append({
            "text": prompt, "token_ids": ids, "greedy": tokens[len(ids):],
            "smallest_margin": min(margins),
            # Every 97th logit after the prompt, of 49152.
            "logits": [round(float(v), 5) for v in first[::97]]})
        print(repr(prompt), "smallest margin", min(margins))
    json.dump(golden, open(os.path.join(out, "smollm2.json"), "w"))


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    write_small(sys.argv[1])
    if len(sys.argv) > 2:
        write_smollm2(sys.argv[1], sys.argv[2])
