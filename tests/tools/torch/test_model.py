"""rankine_torch reads every form and encoding of docs/factorization.md as the engine does, and writes what it reads."""

import json
import os
import shutil
import unittest

import safetensors.torch
import torch

from schema_check import check_file, problems
from torch_testing import F32, NAMES, ROOT, Builder, TorchCase, close, perplexity, rewrite, run, run_json

from rankine_torch import encodings
from rankine_torch.balance import balance
from rankine_torch.folder import Folder
from rankine_torch.model import load, write
from rankine_torch.network import FactoredLinear

SCHEMA = os.path.join(ROOT, "docs", "factorization.schema.json")
# Sums of f32 in other orders, as in tests/models/llama_test.cc; the random models here have larger logits.
NEAR = 2e-5


def svd(name, m, n):
    return Builder(name, m, n, f"o:{m}", f"i:{n}").term(("U", f"o:{m} r:8", "bf16"), ("S", "r:8", "f32"),
                                                        ("V", f"r:8 i:{n}", "bf16")).done()


def tucker(name, m, n):
    return Builder(name, m, n, f"o:{m}", f"i:{n}").term(("A", f"o:{m} a:8", "f32"), ("G", "a:8 b:6", "f16"),
                                                        ("B", f"b:6 i:{n}", "f32")).done()


def tucker_of_heads(name, m, n):
    h = m // 8
    return Builder(name, m, n, f"h:{h} d:8", f"i:{n}").term(
        ("A", "h:%d a:2" % h, "f32"), ("B", "d:8 b:5", "f32"), ("C", f"i:{n} c:7", "f32"),
        ("G", "a:2 b:5 c:7", "f32")).done()


def mpo2(name, m, n):
    return Builder(name, m, n, f"p:{m // 4} q:4", f"i:{n // 8} j:8").term(
        ("C1", f"p:{m // 4} i:{n // 8} x:9", "f32"), ("C2", "x:9 q:4 j:8", "bf16")).done()


def mpo3(name, m, n):
    return Builder(name, m, n, f"o1:2 o2:{m // 4} o3:2", f"i1:{n // 8} i2:2 i3:4").term(
        ("C1", f"o1:2 i1:{n // 8} x:6", "f32"), ("C2", f"x:6 o2:{m // 4} i2:2 y:5", "f32"),
        ("C3", "y:5 o3:2 i3:4", "f32")).done()


def signs(builder, name, count):
    builder.tensors[name] = torch.randint(0, 2, (count,), generator=builder.generator).mul(2).sub(1).to(torch.int8)
    return name


def rotated_qlr(name, m, n):
    """Q + L R in a rotated basis with a bias; k and v have 16 outputs, 3 x 16 and more elsewhere would need a block."""
    b = Builder(name, m, n, f"o:{m}", f"i:{n}").term(("Q", f"o:{m} i:{n}", "f32")).term(
        ("L", f"o:{m} r:4", "f32"), ("R", f"r:4 i:{n}", "f32"), size=0.2)
    b.tensors[name + ".b"] = torch.randn(m, generator=b.generator) * 0.2
    block, _ = torch.linalg.qr(torch.randn(4, 4, generator=b.generator))
    b.tensors[name + ".block"] = block
    b.tensors[name + ".rows"] = torch.randperm(m, generator=b.generator).to(torch.int32)
    b.entry["bias"] = name + ".b"
    b.entry["input_transforms"] = [{"kind": "hadamard", "signs": signs(b, name + ".si", n), "block": name + ".block"}]
    b.entry["output_transforms"] = [{"kind": "hadamard", "signs": signs(b, name + ".so", m), "transposed": True,
                                     "block": name + ".block"}, {"kind": "permutation", "indices": name + ".rows"}]
    return b.done()


def pivoted(name, m, n):
    b = Builder(name, m, n, f"o:{m}", f"i:{n}").term(("C", f"o:{m} r:8", "f32"), ("P", f"r:8 i:{n}", "f32"), size=0.3)
    core = b.entry["terms"][0]["cores"][0]
    core["leading_identity"] = True
    b.tensors[core["tensors"]["values"]] = b.tensors[core["tensors"]["values"]][8:].clone()
    b.tensors[name + ".rows"] = torch.randperm(m, generator=b.generator).to(torch.int32)
    b.entry["output_transforms"] = [{"kind": "permutation", "indices": name + ".rows"}]
    return b.done()


def stacked_qkv(name, m, n):
    """q, k and v as ranges of one stack of heads: one leg of a shared core."""
    layer, _, leaf = name.rpartition(".")
    heads = {"q_proj": (0, 4), "k_proj": (4, 2), "v_proj": (6, 2)}
    if leaf not in heads:
        return None
    b = Builder(layer + ".qkv", m, n, f"h:{m // 8} d:8", f"i:{n}").term(
        ("A", "h:8 a:2", "f32"), ("B", "d:8 b:6", "f32"), ("C", f"i:{n} c:9", "f32"), ("G", "a:2 b:6 c:9", "f32"))
    offset, extent = heads[leaf]
    b.entry["name"] = name
    b.entry["terms"][0]["cores"][0]["legs"][0] = {"name": "h", "offset": offset, "extent": extent, "stored_extent": 8}
    return b.done()


FORMS = {f.__name__: f for f in (svd, tucker, tucker_of_heads, mpo2, mpo3, rotated_qlr, pivoted, stacked_qkv)}
# Affine of one and two levels of both kinds, short last groups (of 32 and 64 columns), the codebooks.
ENCODINGS = ("int2:g16:k:offset", "int3:g16:k8", "int4:g32:offset", "int4:g32:k:offset16", "int5:g64", "int6:row:f32",
             "int8:g128", "nf4:g16", "nf4:row:f32", "e8p")


def load_tensors(folder):
    return safetensors.torch.load_file(os.path.join(folder, "model.safetensors"))


class ModelTest(TorchCase):
    def log_probabilities(self, folder, context):
        """Of the next token, over the first 64 printable characters: rankine's, and the torch model's."""
        characters = [chr(c) for c in range(33, 97)]
        questions = self.path("choices.jsonl")
        with open(questions, "w") as file:
            file.write(json.dumps({"context": context, "choices": characters, "answer": 0}) + "\n")
        found = run_json("eval", folder, "--choices", questions, *F32)["choices"]["log_likelihoods"][0]
        opened = Folder(folder)
        model, _ = load(opened)
        tokenizer = opened.tokenizer()
        with torch.no_grad():
            rows = torch.log_softmax(model(torch.tensor([tokenizer.encode(context).ids])).logits[0, -1].double(), -1)
        return found, [rows[tokenizer.encode(c).ids[0]].item() for c in characters]

    def make(self, form):
        folder = self.path(form)
        if not os.path.exists(folder):
            rewrite(self.dense, folder, FORMS[form])
        return folder

    def test_dense_is_transformers_own(self):
        model, cores = load(Folder(self.dense))
        self.assertFalse(cores.parameters())
        tokens = torch.arange(40)[None]
        with torch.no_grad():
            self.assertTrue(torch.equal(model(tokens).logits, self.model(tokens).logits))

    def test_every_form_equals_the_engine(self):
        for form in FORMS:
            with self.subTest(form):
                found, expected = self.log_probabilities(self.make(form), "def f(x): return x[")
                self.assertGreater(torch.tensor(found).std().item(), 0.1)
                self.assertLess(close(found, expected), NEAR)

    def test_every_encoding_decodes_exactly(self):
        for number, encoding in enumerate(ENCODINGS):
            with self.subTest(encoding):
                folder, dense = self.path(f"e{number}"), self.path(f"d{number}")
                run_json("convert", self.dense, folder, "--encode", encoding)
                run_json("export", folder, dense, "--densify", "--dtype", "f32")
                model, _ = load(Folder(folder))
                for name, weight in load_tensors(dense).items():
                    linear = model.get_submodule(name.removesuffix(".weight"))
                    if isinstance(linear, FactoredLinear):
                        self.assertTrue(torch.equal(linear.product(), weight), name)

    def test_encoded_factors_equal_the_engine(self):
        run_json("factorize", self.dense, self.path("int4"), "--method", "svd", "--keep", "0.6", "--factor-encode",
                 "int4:g16:offset")
        found, expected = self.log_probabilities(self.path("int4"), "class A:")
        # Products with codes are rounded per group: below 2^-24 of each partial sum, as for other orders.
        self.assertLess(close(found, expected), NEAR)

    def test_few_and_many_tokens_contract_in_other_orders(self):
        model, _ = load(Folder(self.make("mpo3")))
        linear = model.get_submodule("model.layers.0.mlp.up_proj")
        x = torch.randn(5000, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            dense = x.double() @ linear.product().double().T
            self.assertLess(close(linear(x), dense), 1e-6)
            self.assertLess(close(linear(x[:1]), dense[:1]), 1e-6)

    def test_shared_cores_are_one_parameter(self):
        model, cores = load(Folder(self.make("stacked_qkv")))
        self.assertEqual(len(list(p for p in model.parameters() if p.requires_grad)), 2 * 4)
        self.assertEqual(len(cores.parameters()), 2 * 4)

    def test_balance_changes_no_product(self):
        for form in ("svd", "mpo3", "tucker", "stacked_qkv"):
            with self.subTest(form):
                model, cores = load(Folder(self.make(form)))
                linears = [m for m in model.modules() if isinstance(m, FactoredLinear)]
                before = [linear.product().detach() for linear in linears]
                values = [p.clone() for p in cores.parameters().values()]
                balance(model)
                for linear, product in zip(linears, before):
                    self.assertLess(close(linear.product().detach(), product), 1e-6)
                moved = [not torch.equal(p, v) for p, v in zip(cores.parameters().values(), values)]
                # Cores that several matrices share belong to none of them.
                self.assertEqual(any(moved), form != "stacked_qkv")
                if form == "svd":
                    core = {c.name: linears[0].core_value(c) for c in linears[0].matrix.cores()}
                    torch.testing.assert_close(core["U"].norm(dim=0), core["V"].norm(dim=1))

    def test_written_folders_hold_what_was_read(self):
        for form in FORMS:
            with self.subTest(form):
                folder, out = Folder(self.make(form)), self.path(form + "-written")
                _, cores = load(folder)
                write(folder, out, cores, {}, lambda name, old: {"method": "none", "x-test": {"name": name}})
                self.assertEqual(check_file(os.path.join(out, "factorization.json"), SCHEMA), [])
                before, after = load_tensors(folder.path), load_tensors(out)
                self.assertEqual(before.keys(), after.keys())
                for name, tensor in before.items():
                    self.assertTrue(tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name)
                self.assertEqual(run("inspect", out).returncode, 0)
                self.assertEqual(perplexity(out, self.text), perplexity(folder.path, self.text))

    def test_encoding_is_as_good_as_the_engines(self):
        weight = self.model.model.layers[0].mlp.up_proj.weight.detach()
        name = "model.layers.0.mlp.up_proj"
        for text, encoding in (("int4:g16", {"kind": "affine", "bits": 4, "offset": "none"}),
                               ("int3:g16:offset", {"kind": "affine", "bits": 3, "offset": "per_group"}),
                               ("nf4:g16", {"kind": "nf4"})):
            with self.subTest(text):
                encoding = {**encoding, "group": 16, "group_leg": "i", "scale": "f16"}
                stored = encodings.encode(encoding, weight)
                ours = encodings.decode(encoding, stored, weight.shape)
                folder = self.path(text.replace(":", "-"))
                run_json("convert", self.dense, folder, "--encode", text)
                theirs = load(Folder(folder))[0].get_submodule(name).product().detach()
                # The engine searches more finely; both find most of what there is.
                self.assertLess(close(ours, weight), 1.1 * close(theirs, weight))
                self.assertGreater(close(ours, weight), 0.9 * close(theirs, weight))
                self.assertEqual({r: (t.dtype, t.shape) for r, t in stored.items()},
                                 {r: (t.dtype, t.shape) for r, t in self.roles(folder, name).items()})

    def roles(self, folder, name):
        core, = Folder(folder).matrices[name].cores()
        return {role: Folder(folder).tensor(tensor) for role, tensor in core.tensors.items()}

    def test_the_schema_check_can_fail(self):
        with open(SCHEMA) as file:
            schema = json.load(file)
        entry, _ = svd("a", 32, 32)
        good = {"format_version": 1, "matrices": [entry]}
        self.assertEqual(problems(good, schema, schema), [])
        for change in ({"format_version": 2}, {"matrices": {}}, {"other": 1}, {"matrices": [{**entry, "bond": 1}]},
                       {"matrices": [{**entry, "out_features": 0}]}, {"matrices": [{**entry, "name": ""}]}):
            self.assertTrue(problems({**good, **change}, schema, schema), change)

    def test_bad_folders_are_named(self):
        out = self.path("never.safetensors")
        command = ["fisher", None, "--out", out, "--text", self.text, "--context", "64", "--windows", "2"]

        def refused(folder, *words):
            self.assert_refused([folder if a is None else a for a in command], *words)

        refused(self.path("none"), "none", "config.json")
        refused(self.text, "rankine convert")
        for number, (file, change, words) in enumerate((
                ("config.json", lambda c: {**c, "model_type": "gpt2"}, ("gpt2", "llama")),
                ("config.json", lambda c: {**c, "hidden_size": 48}, ("[32, 32]",)),
                ("factorization.json", lambda c: {**c, "format_version": 2}, ("format_version 2",)),
                ("factorization.json", lambda c: {**c, "matrices": [{**c["matrices"][0], "bond": 3}]}, ("'bond'",)),
                ("factorization.json", lambda c: self.with_leg(c, 9), ("extent",)))):
            folder = self.path(f"bad{number}")
            shutil.copytree(self.make("svd"), folder)
            with open(os.path.join(folder, file)) as source:
                changed = change(json.load(source))
            with open(os.path.join(folder, file), "w") as target:
                json.dump(changed, target)
            refused(folder, *words)

    @staticmethod
    def with_leg(manifest, extent):
        manifest["matrices"][0]["terms"][0]["cores"][0]["legs"][1]["extent"] = extent
        return manifest

    def test_bad_tensors_are_named(self):
        command = ["fisher", None, "--out", self.path("never"), "--text", self.text, "--context", "64"]
        name = next(iter(NAMES)) + ".weight"
        for number, (change, words) in enumerate((
                (lambda t: t[name].fill_(float("nan")), (name, "not finite")),
                (lambda t: t.pop(name), (name, "missing")),
                (lambda t: t.update({"model.other": torch.zeros(1)}), ("model.other",)))):
            folder = self.path(f"tensors{number}")
            shutil.copytree(self.dense, folder)
            tensors = load_tensors(folder)
            change(tensors)
            safetensors.torch.save_file(tensors, os.path.join(folder, "model.safetensors"))
            self.assert_refused([folder if a is None else a for a in command], *words)
        with open(os.path.join(folder, "model.safetensors"), "w") as file:
            file.write("not safetensors")
        self.assert_refused([folder if a is None else a for a in command], "model.safetensors")


if __name__ == "__main__":
    unittest.main()
