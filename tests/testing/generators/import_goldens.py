"""Writes tests/data/import: one small random Llama model with factored linears, stored as other programs store
factors, and the logits that PyTorch gives with the same factors in float32.

Usage: python import_goldens.py OUT (needs torch, transformers, safetensors and, for the adapter, peft)
"""

import json
import math
import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from llama_goldens import randomise

CONFIG = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=64, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1,
              eos_token_id=2)
TOKENS = 24
SHORT = {"self_attn": ("q", "k", "v", "o"), "mlp": ("gate", "up", "down")}


class Factored(torch.nn.Module):
    """y = Q x + L R x + bias; in a rotated basis with signs."""

    def __init__(self, left, right, bias=None, base=None, su=None, sv=None):
        super().__init__()
        self.left, self.right, self.bias, self.base, self.su, self.sv = left, right, bias, base, su, sv

    def forward(self, x):
        if self.su is not None:
            x = hadamard(x * self.su)
        y = x @ self.right.T @ self.left.T
        if self.base is not None:
            y = y + x @ self.base.T
        if self.sv is not None:
            y = hadamard(y) * self.sv
        return y if self.bias is None else y + self.bias


def hadamard(x):
    """By Sylvester's matrix over sqrt(n); it is symmetric."""
    h = torch.ones(1, 1)
    while h.shape[0] < x.shape[-1]:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return x @ h / math.sqrt(x.shape[-1])


def linears(model):
    return [(name, module) for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"]


def replace(model, name, module):
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def base_model(seed, **changes):
    model = LlamaForCausalLM(LlamaConfig(**{**CONFIG, **changes})).eval().float()
    randomise(model, seed)
    return model


def save(out, name, model, config, tensors):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({key: value for key, value in config.items() if not key.startswith("_")}, file, indent=1)
    save_file({key: value.contiguous() for key, value in tensors.items()}, os.path.join(folder, "model.safetensors"))
    golden(folder, model)


def golden(folder, model):
    tokens = torch.randint(0, CONFIG["vocab_size"], (1, TOKENS), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(tokens).logits[0].numpy().astype("<f4")
    with open(os.path.join(folder, "tokens.json"), "w") as file:
        json.dump(tokens[0].tolist(), file)
    logits.tofile(os.path.join(folder, "logits.bin"))


def factor(model, seed, build, skip=()):
    """Puts random factors in place of linears; `build` names the tensors of one. Returns all tensors."""
    generator = torch.Generator().manual_seed(seed)
    state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    for index, (name, module) in enumerate(linears(model)):
        if any(s in name for s in skip):
            continue
        out, inputs = module.weight.shape
        rank = 5 + index
        left = torch.randn(out, rank, generator=generator) * 0.3
        right = torch.randn(rank, inputs, generator=generator) * 0.3
        parts, new = build(name, module, left, right, generator)
        state.pop(name + ".weight")
        state.pop(name + ".bias", None)
        state.update(parts)
        replace(model, name, new)
    return state


def main(out):
    # ASVD: W = A B, the bias on A. One layer stays dense.
    model = base_model(1, attention_bias=True)
    config = model.config.to_dict()

    def asvd(name, module, left, right, generator):
        parts = {name + ".ALinear.weight": left, name + ".BLinear.weight": right}
        if module.bias is not None:
            parts[name + ".ALinear.bias"] = module.bias.data
        return parts, Factored(left, right, None if module.bias is None else module.bias.data)
    tensors = factor(model, 11, asvd, skip=("layers.1.mlp.down_proj",))
    save(out, "ablinear", model, config, tensors)

    # Dobi-SVD: the same names, W = B A.
    model = base_model(2)
    config = model.config.to_dict()
    tensors = factor(model, 12, lambda name, module, left, right, generator: (
        {name + ".ALinear.weight": right, name + ".BLinear.weight": left}, Factored(left, right)))
    save(out, "dobi", model, config, tensors)

    # SVD-LLM: q_u_proj and q_v_proj, in f16.
    model = base_model(3)
    config = model.config.to_dict()

    def svd_llm(name, module, left, right, generator):
        stem = name.removesuffix("_proj")
        left, right = left.half(), right.half()
        return {stem + "_u_proj.weight": left, stem + "_v_proj.weight": right}, Factored(left.float(), right.float())
    tensors = factor(model, 13, svd_llm)
    save(out, "svd_llm", model, config, tensors)

    # CALDERA: Q + L R, in a basis rotated by signs and Hadamard where the sizes are powers of two.
    model = base_model(4)
    config = model.config.to_dict()

    def caldera(name, module, left, right, generator):
        signs = lambda n: torch.randint(0, 2, (n,), generator=generator).float() * 2 - 1
        rows, columns = module.weight.shape
        parts = {name + ".Q": module.weight.data, name + ".L": left, name + ".R": right}
        su = sv = None
        if columns == 32:
            su = parts[name + ".SU"] = signs(columns)
        if rows in (16, 32):
            sv = parts[name + ".SV"] = signs(rows)
        return parts, Factored(left, right, base=module.weight.data, su=su, sv=sv)
    tensors = factor(model, 14, caldera)
    save(out, "caldera", model, config, tensors)

    # LoRA by PEFT itself: two ranks and alphas by pattern, rsLoRA.
    model = base_model(5)
    save(out, "lora/base", model, model.config.to_dict(),
         {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"})
    for name, changes in {"plain": {}, "patterns": dict(use_rslora=True, rank_pattern={"layers.0.mlp.up_proj": 3},
                                                        alpha_pattern={"k_proj": 24})}.items():
        model = base_model(5)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "k_proj", "up_proj",
                                                                                       "down_proj"], **changes)).eval()
        generator = torch.Generator().manual_seed(15)
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        folder = os.path.join(out, "lora", name)
        adapted.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        golden(folder, adapted)


if __name__ == "__main__":
    main(sys.argv[1])
