"""Checkpoints of other programs through the `rankine` program, against PyTorch."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

RANKINE = os.environ["RANKINE_BIN"]
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
DATA = os.path.join(ROOT, "tests", "data", "import")
PICKLES = os.path.join(ROOT, "tools", "scripts", "pickle_to_safetensors.py")


def run(*arguments):
    return subprocess.run([RANKINE, *arguments], capture_output=True, text=True, timeout=600)


class ImportCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="rankine-import-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def run_json(self, *arguments):
        result = run(*arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def assert_error(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        lines = result.stderr.strip().splitlines()
        self.assertTrue(lines[-1].startswith("error:"), result.stderr)
        for word in words:
            self.assertIn(word, lines[-1])


class ConvertTest(ImportCase):
    def test_says_what_it_saw(self):
        result = run("convert", os.path.join(DATA, "dobi"), self.path("out"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("found 14 linears: imported: ABLinear pairs in reverse, W = B A, rank 5 to 18", result.stdout)
        report = self.run_json("convert", os.path.join(DATA, "caldera"), self.path("qlr"), "--dtype", "f32")
        self.assertEqual(report["source"], ["14 linears: imported: Q + L R, rank 5 to 18"])
        with open(self.path("qlr", "factorization.json")) as file:
            manifest = json.load(file)
        self.assertEqual(manifest["format_version"], 1)
        self.assertEqual([len(m["terms"]) for m in manifest["matrices"]], [2] * 14)

    def test_an_adapter_stays_factored(self):
        report = self.run_json("convert", os.path.join(DATA, "lora", "base"), self.path("out"), "--lora",
                               os.path.join(DATA, "lora", "plain"), "--dtype", "f32")
        self.assertEqual(report["source"], ["8 linears: dense + LoRA, scale 4, rank 4"])
        written = load_file(self.path("out", "model.safetensors"))
        adapter = load_file(os.path.join(DATA, "lora", "plain", "adapter_model.safetensors"))
        name = "model.layers.1.mlp.down_proj"
        for factor, key, scale in (("lora_L", "lora_B", 4), ("lora_R", "lora_A", 1)):
            expected = adapter[f"base_model.model.{name}.{key}.weight"] * scale
            self.assertTrue(torch.equal(written[f"{name}.{factor}"], expected), factor)

    def test_bad_input_is_named(self):
        self.assert_error(run("convert", os.path.join(DATA, "lora", "plain"), self.path("out")), "PEFT adapter", "--lora")
        self.assert_error(run("convert", os.path.join(DATA, "lora", "base"), self.path("out"), "--lora", self.path("no")),
                          "adapter_config.json")
        self.assert_error(run("convert", os.path.join(DATA, "dobi"), self.path("out"), "--factor-order", "AB"),
                          "--factor-order AB contradicts")
        self.assertFalse(os.path.exists(self.path("out")))


class ExportTest(ImportCase):
    """What transformers makes of an export, against the logits of the same factors (tests/data/import)."""

    def golden(self, name):
        with open(os.path.join(DATA, name, "tokens.json")) as file:
            tokens = torch.tensor([json.load(file)])
        with open(os.path.join(DATA, name, "logits.bin"), "rb") as file:
            logits = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
        return tokens, logits.reshape(tokens.shape[1], -1)

    def test_transformers_loads_the_dense_export(self):
        for name in ("ablinear", "caldera"):
            out = self.path(name)
            result = run("export", os.path.join(DATA, name), out, "--densify", "--dtype", "f32")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("DENSIFIED", result.stdout)
            model, info = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
            self.assertFalse(info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"], info)
            tokens, expected = self.golden(name)
            with torch.no_grad():
                logits = model(tokens).logits[0]
            # Sums of f32 in other orders, as in tests/models/llama_test.cc.
            self.assertLess((torch.norm(logits - expected) / torch.norm(expected)).item(), 2e-5, name)

    def test_factors_come_back_bit_for_bit(self):
        source = os.path.join(DATA, "ablinear")
        report = self.run_json("export", source, self.path("out"), "--factors")
        self.assertEqual(report["factored"], 13)
        written, original = (load_file(os.path.join(f, "model.safetensors")) for f in (self.path("out"), source))
        self.assertEqual(written.keys(), original.keys())
        for name, tensor in original.items():
            self.assertTrue(torch.equal(written[name], tensor) and written[name].dtype == tensor.dtype, name)

    def test_pivoted_factors_multiply_out_too(self):
        run("convert", os.path.join(DATA, "dobi"), self.path("pivoted"), "--pivot", "--dtype", "f32")
        self.assert_error(run("export", self.path("pivoted"), self.path("out"), "--factors"), "transforms", "--densify")
        self.run_json("export", self.path("pivoted"), self.path("out"), "--densify", "--dtype", "f32")
        model = LlamaForCausalLM.from_pretrained(self.path("out"), dtype=torch.float32)
        tokens, expected = self.golden("dobi")
        with torch.no_grad():
            logits = model(tokens).logits[0]
        # The coefficients are rounded to f32 once more than the factors.
        self.assertLess((torch.norm(logits - expected) / torch.norm(expected)).item(), 2e-4)

    def test_bad_input_is_named(self):
        source = os.path.join(DATA, "ablinear")
        self.assert_error(run("export", source, self.path("out")), "--densify", "--factors")
        self.assert_error(run("export", source, self.path("out"), "--densify", "--dtype", "int8"), "--dtype", "int8")
        self.assert_error(run("export", source, self.path("out"), "--densify", "--fold-scales"), "--fold-scales")
        self.assert_error(run("export", self.path("no"), self.path("out"), "--densify"), self.path("no"))


class PickleTest(ImportCase):
    def setUp(self):
        super().setUp()
        shutil.copytree(os.path.join(DATA, "svd_llm"), self.path("m"))
        self.tensors = load_file(self.path("m", "model.safetensors"))
        os.remove(self.path("m", "model.safetensors"))

    def script(self, *arguments):
        return subprocess.run([sys.executable, PICKLES, *arguments], capture_output=True, text=True, timeout=600)

    def test_the_way_from_a_pickle_to_a_model(self):
        tied = dict(self.tensors)
        tied["lm_head.weight"] = tied["model.embed_tokens.weight"]
        torch.save(tied, self.path("m", "pytorch_model.bin"))
        self.assert_error(run("convert", self.path("m"), self.path("out")), "pickle", "pickle_to_safetensors.py")
        result = self.script(self.path("m"))
        self.assertEqual(result.returncode, 0, result.stderr)
        written = load_file(self.path("m", "model.safetensors"))
        self.assertEqual(written.keys(), self.tensors.keys())
        for name, tensor in self.tensors.items():
            self.assertTrue(torch.equal(written[name], tensor), name)
        self.run_json("convert", self.path("m"), self.path("out"))
        self.assertIn("exists already", self.script(self.path("m")).stderr)

    def test_shards_and_adapters(self):
        names = sorted(self.tensors)
        for i, part in enumerate((names[:10], names[10:])):
            torch.save({name: self.tensors[name] for name in part}, self.path("m", f"pytorch_model-{i}-of-2.bin"))
        self.assertEqual(self.script(self.path("m")).returncode, 0)
        self.assertEqual(load_file(self.path("m", "model.safetensors")).keys(), self.tensors.keys())
        shutil.copytree(os.path.join(DATA, "lora", "plain"), self.path("a"))
        adapter = load_file(self.path("a", "adapter_model.safetensors"))
        os.remove(self.path("a", "adapter_model.safetensors"))
        torch.save(adapter, self.path("a", "adapter_model.bin"))
        self.assertEqual(self.script(self.path("a")).returncode, 0)
        self.assertEqual(load_file(self.path("a", "adapter_model.safetensors")).keys(), adapter.keys())

    def test_code_in_a_pickle_is_never_run(self):
        class Bomb:
            def __reduce__(self):
                return (open, (trap, "w"))
        trap = self.path("ran")
        torch.save({"w": Bomb()}, self.path("m", "pytorch_model.bin"))
        result = self.script(self.path("m"))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("holds more than tensors", result.stderr)
        self.assertIn("state_dict", result.stderr)
        self.assertFalse(os.path.exists(trap))
        self.assertFalse(os.path.exists(self.path("m", "model.safetensors")))

    def test_bad_input_is_named(self):
        self.assertIn("no such folder", self.script(self.path("no")).stderr)
        self.assertIn("no pickle", self.script(self.path("m")).stderr)
        with open(self.path("m", "pytorch_model.bin"), "wb") as file:
            file.write(b"nothing")
        result = self.script(self.path("m"))
        self.assertTrue(result.stderr.startswith("error:"), result.stderr)
        torch.save([1, 2], self.path("m", "pytorch_model.bin"))
        self.assertIn("not a state dict", self.script(self.path("m")).stderr)


if __name__ == "__main__":
    unittest.main()
