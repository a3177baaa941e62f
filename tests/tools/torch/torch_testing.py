"""Tiny Llama models of random weights in Rankine folders, in any form, and how the engine scores text with them."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

RANKINE = os.environ["RANKINE_BIN"]
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
PACKAGE = os.path.join(ROOT, "tools", "torch")
sys.path.insert(0, PACKAGE)

from rankine_torch.__main__ import main  # noqa: E402

HIDDEN, INTER, LAYERS, HEADS, KV_HEADS, HEAD = 32, 64, 2, 4, 2, 8
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = len(ALPHABET) + 2
F32 = ("--compute", "f32", "--kv-dtype", "f32")
LINEARS = {"self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
           "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
           "mlp.gate_proj": (INTER, HIDDEN), "mlp.up_proj": (INTER, HIDDEN), "mlp.down_proj": (HIDDEN, INTER)}
NAMES = {f"model.layers.{k}.{name}": shape for k in range(LAYERS) for name, shape in LINEARS.items()}


def random(generator, *shape, size=1.0):
    return torch.randn(*shape, generator=generator) * size


def write_tokenizer(folder):
    """Byte-level BPE without merges: a token for each byte."""
    tokenizer = Tokenizer(models.BPE({c: k for k, c in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def write_model(folder, seed=0, bias=False):
    """Writes the folder; returns transformers' model of the same weights."""
    os.makedirs(folder)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTER, num_hidden_layers=LAYERS,
                         num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD, rms_norm_eps=1e-5,
                         max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=256,
                         eos_token_id=257, attention_bias=bias)
    model = LlamaForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = 1.0 if "embed" in name else 0.3 if "bias" in name else 1.5 * parameter.shape[-1] ** -0.5
            values = random(generator, *parameter.shape, size=size)
            parameter.copy_(1 + 0.1 * values if "norm" in name else values)
    save(folder, config.to_dict(), {n: p.detach() for n, p in model.named_parameters()}, [])
    write_tokenizer(folder)
    return model


def save(folder, config, tensors, matrices):
    config = {**config, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    safetensors.torch.save_file({n: t.contiguous() for n, t in tensors.items()},
                                os.path.join(folder, "model.safetensors"), {"format": "pt"})
    if matrices:
        with open(os.path.join(folder, "factorization.json"), "w") as file:
            json.dump({"format_version": 1, "matrices": matrices}, file)


def rewrite(source, folder, replace):
    """`folder`: the dense folder `source` with linears replaced: replace(name, m, n) -> (entry, tensors) or None."""
    shutil.copytree(source, folder)
    tensors = safetensors.torch.load_file(os.path.join(folder, "model.safetensors"))
    matrices = []
    for name, (m, n) in NAMES.items():
        made = replace(name, m, n)
        if made is not None:
            del tensors[name + ".weight"]
            matrices.append(made[0])
            tensors.update(made[1])
    with open(os.path.join(folder, "config.json")) as file:
        save(folder, json.load(file), tensors, matrices)


class Builder:
    """A matrix's entry of the manifest and its tensors, of random cores. legs: "o:32 r:4" each."""

    def __init__(self, name, m, n, outputs, inputs, seed=0):
        self.name, self.tensors = name, {}
        self.generator = torch.Generator().manual_seed(seed + sum(name.encode()))
        self.entry = {"name": name, "out_features": m, "in_features": n, "output_legs": self.legs(outputs),
                      "input_legs": self.legs(inputs), "terms": []}

    @staticmethod
    def legs(text):
        return [{"name": leg.split(":")[0], "extent": int(leg.split(":")[1])} for leg in text.split()]

    def term(self, *cores, size=None):
        """cores: (name, legs, dtype). `size` of the entries; default: the product has entries of some n^-1/2."""
        made = []
        for name, legs, dtype in cores:
            legs = self.legs(legs)
            shape = [leg["extent"] for leg in legs]
            of = size or (1.5 * self.entry["in_features"] ** -0.5) ** (1 / len(cores)) * 0.8
            values = random(self.generator, *shape, size=of).to(
                {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype])
            tensor = f"{self.name}.{len(self.entry['terms'])}{name}"
            self.tensors[tensor] = values
            made.append({"name": name, "legs": legs, "encoding": {"kind": "float", "dtype": dtype},
                         "tensors": {"values": tensor}})
        self.entry["terms"].append({"cores": made})
        return self

    def done(self):
        return self.entry, self.tensors


def run(*arguments):
    return subprocess.run([RANKINE, *arguments], capture_output=True, text=True, timeout=300)


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def perplexity(folder, text, context=64):
    return run_json("eval", folder, "--text", text, "--context", str(context), *F32)["perplexity"]


class TorchCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(2)
        cls.folder = tempfile.mkdtemp(prefix="rankine-torch-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.text = cls.path("text.txt")
        with open(unittest.__file__.replace("__init__", "case")) as source, open(cls.text, "w") as file:
            file.write(source.read()[:12000])
        cls.dense = cls.path("dense")
        cls.model = write_model(cls.dense)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    def package(self, *arguments):
        """The package's command, in this process; its standard output."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            main([str(a) for a in arguments])
        return output.getvalue()

    def assert_refused(self, arguments, *words):
        """One line that begins with error: and holds the words."""
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            main([str(a) for a in arguments])
        message = str(caught.exception.code)
        self.assertTrue(message.startswith("error: "), message)
        self.assertNotIn("\n", message)
        for word in words:
            self.assertIn(word, message)


def close(actual, expected):
    """Relative difference in the Frobenius norm, f64."""
    actual, expected = (torch.as_tensor(t, dtype=torch.float64) for t in (actual, expected))
    return (torch.norm(actual - expected) / torch.norm(expected)).item()


