"""`rankine_torch heal`: the loss against plain autograd, and whole runs on tiny models."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import safetensors.torch
import torch
from torch.nn import functional

from schema_check import check_file
from test_model import SCHEMA, mpo3
from torch_testing import PACKAGE, Builder, TorchCase, close, perplexity, rewrite, run, run_json

from rankine_torch.folder import Folder
from rankine_torch.loss import loss_and_backward, mean_loss
from rankine_torch.model import load
from rankine_torch.training import Batches, rate_factor

CONTEXT = 64
QUICK = ("--context", CONTEXT, "--batch", 4, "--held-out", 4, "--steps", 24, "--evaluations", 3, "--warmup", 2,
         "--learning-rate", 0.01)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


def manifest(folder):
    with open(os.path.join(folder, "factorization.json")) as file:
        return json.load(file)["matrices"]


class HealTest(TorchCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run_json("factorize", cls.dense, cls.path("svd"), "--method", "svd", "--keep", "0.5")

    def heal(self, model, out, *more, text=None):
        return self.package("heal", model, out, "--text", text or self.text, *QUICK, *more)

    def test_the_loss_and_its_gradient_equal_plain_autograd(self):
        tokens = torch.randint(0, 256, (3, 200), generator=torch.Generator().manual_seed(1))
        for share in (0.0, 0.3, 1.0):
            with self.subTest(share):
                ours, cores = load(Folder(self.path("svd")))
                plain, reference = load(Folder(self.path("svd")))
                total = loss_and_backward(ours, tokens, 0.5, self.model, share)
                rows = plain(tokens).logits[:, :-1].flatten(0, 1)
                with torch.no_grad():
                    taught = torch.softmax(self.model(tokens).logits[:, :-1].flatten(0, 1), -1)
                divergence = (taught * (taught.log() - torch.log_softmax(rows, -1))).sum()
                loss = (1 - share) * functional.cross_entropy(rows, tokens[:, 1:].flatten(), reduction="sum") + \
                    share * divergence
                (0.5 * loss).backward()
                self.assertAlmostEqual(total / loss.item(), 1, delta=1e-5)
                for key, parameter in cores.parameters().items():
                    self.assertLess(close(parameter.grad, reference.parameters()[key].grad), 1e-4, key)

    def test_a_held_out_loss_equals_the_engines(self):
        opened = Folder(self.path("svd"))
        model, _ = load(opened)
        with open(self.text) as file:
            ids = opened.tokenizer().encode(file.read()).ids
        windows = torch.tensor(ids[:len(ids) // CONTEXT * CONTEXT]).reshape(-1, CONTEXT)
        expected = math.log(perplexity(self.path("svd"), self.text, CONTEXT))
        self.assertAlmostEqual(mean_loss(model, windows), expected, delta=1e-4)

    def test_text_heals_and_repeats_to_the_bit(self):
        printed = self.heal(self.path("svd"), self.path("a"))
        self.assertIn("24 steps", printed)
        self.heal(self.path("svd"), self.path("b"))
        self.assertEqual(files(self.path("a")), files(self.path("b")))
        self.assertLess(perplexity(self.path("a"), self.text), 0.8 * perplexity(self.path("svd"), self.text))
        self.assertEqual(run("generate", self.path("a"), "--prompt", "def", "--max-tokens", "4").returncode, 0)
        self.assertEqual(check_file(self.path("a", "factorization.json"), SCHEMA), [])
        for before, after in zip(manifest(self.path("svd")), manifest(self.path("a"))):
            self.assertEqual(after["terms"], before["terms"])
            # Fitted together, so no prefix is promised to be good, and what was measured is no longer true.
            self.assertIn("sorted_leg", before)
            self.assertNotIn("sorted_leg", after)
            self.assertNotIn("relative_error", after["provenance"])
            self.assertEqual(after["provenance"]["method"], "svd+heal")
            self.assertEqual(after["provenance"]["keep"], 0.5)
            record = after["provenance"]["x-heal"]
            self.assertEqual((record["steps"], record["learning_rate"]), (24, 0.01))
            self.assertTrue(record["text"].startswith("sha256:"))
            self.assertLess(record["held_out_loss"], record["held_out_loss_before"])
        before, after = (safetensors.torch.load_file(self.path(f, "model.safetensors")) for f in ("svd", "a"))
        for name in before:
            trained = name.endswith((".U", ".S", ".V"))
            self.assertEqual(torch.equal(before[name], after[name]), not trained, name)
            self.assertEqual(before[name].dtype, after[name].dtype)

    def divergence(self, folder):
        return run_json("eval", folder, "--against", self.dense, "--text", self.text, "--context", str(CONTEXT),
                        "--compute", "f32", "--kv-dtype", "f32")["against"]["kl"]["value"]

    def test_the_dense_model_teaches(self):
        self.heal(self.path("svd"), self.path("taught"), "--teacher", self.dense)
        self.assertLess(self.divergence(self.path("taught")), 0.8 * self.divergence(self.path("svd")))
        dense = self.model.get_submodule("model.layers.1.mlp.up_proj").weight.detach()
        healed = load(Folder(self.path("taught")))[0].get_submodule("model.layers.1.mlp.up_proj").product().detach()
        entry, = [m for m in manifest(self.path("taught")) if m["name"] == "model.layers.1.mlp.up_proj"]
        # Recorded before the cores are rounded to bf16, 2^-9 of each.
        self.assertAlmostEqual(entry["provenance"]["relative_error"], close(healed, dense), delta=0.01)

    def test_an_mpo_heals(self):
        rewrite(self.dense, self.path("mpo"), mpo3)
        self.heal(self.path("mpo"), self.path("mpo-healed"), "--norms")
        self.assertLess(perplexity(self.path("mpo-healed"), self.text), 0.8 * perplexity(self.path("mpo"), self.text))
        norms = [safetensors.torch.load_file(self.path(f, "model.safetensors"))["model.norm.weight"]
                 for f in ("mpo", "mpo-healed")]
        self.assertGreater(close(norms[1], norms[0]), 1e-4)

    def quantised(self, name, factors):
        """Q + L R: int2 blocks, and random L R in `factors` by way of rankine's own encoder."""
        rewrite(self.dense, self.path(name + "-float"), self.q_and_lr)
        self.write_map(name, factors)
        run_json("convert", self.path(name + "-float"), self.path(name), "--encode-map", self.path(name + ".map"))
        return self.path(name)

    def write_map(self, name, factors):
        with open(self.path(name + ".map"), "w") as file:
            file.write(f"model.layers {factors}\n")

    @staticmethod
    def q_and_lr(name, m, n):
        return Builder(name, m, n, f"o:{m}", f"i:{n}").term(("Q", f"o:{m} i:{n}", "f32")).term(
            ("L", f"o:{m} r:8", "bf16"), ("R", f"r:8 i:{n}", "bf16"), size=0.2).done()

    def test_encoded_factors_of_q_plus_lr_heal_beside_a_constant_q(self):
        folder = self.quantised("qlr", "int4:g32:offset")
        self.heal(folder, self.path("qlr-healed"))
        self.assertLess(perplexity(self.path("qlr-healed"), self.text), 0.9 * perplexity(folder, self.text))
        before, after = (safetensors.torch.load_file(os.path.join(f, "model.safetensors"))
                         for f in (folder, self.path("qlr-healed")))
        name = "model.layers.0.mlp.up_proj"
        cores = [c for term in [m for m in manifest(folder) if m["name"] == name][0]["terms"] for c in term["cores"]]
        for core in cores:
            self.assertEqual(core["encoding"]["kind"], "affine")
            same = all(torch.equal(before[t], after[t]) for t in core["tensors"].values())
            self.assertEqual(same, core["name"] == "Q", core["name"])

    def test_an_interrupted_run_goes_on_to_the_same_bytes(self):
        arguments = ("--steps", 60, "--evaluations", 30)
        self.heal(self.path("svd"), self.path("whole"), *arguments)
        out, state = self.path("killed"), self.path("killed.heal", "state.safetensors")
        process = subprocess.Popen(
            [sys.executable, "-m", "rankine_torch", "heal", self.path("svd"), out, "--text", self.text,
             *map(str, QUICK + arguments), "--threads", "2"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": PACKAGE})
        while not os.path.exists(state) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse(os.path.exists(out))
        self.assertTrue(os.path.exists(state))
        run_json("factorize", self.dense, self.path("other"), "--method", "svd", "--keep", "0.4")
        for name, model, more in (("seed", "svd", ("--seed", 5)), ("model", "other", ())):
            with self.subTest(name + " differs"):
                self.assert_refused(["heal", self.path(model), out, "--text", self.text, *QUICK, *arguments, *more],
                                    "killed.heal", name)
        self.heal(self.path("svd"), out, *arguments)
        self.assertEqual(files(out), files(self.path("whole")))
        self.assertFalse(os.path.exists(self.path("killed.heal")))

    def test_a_damaged_state_is_named(self):
        os.makedirs(self.path("damaged.heal"))
        with open(self.path("damaged.heal", "state.safetensors"), "wb") as file:
            file.write(b"\x10")
        self.assert_refused(["heal", self.path("svd"), self.path("damaged"), "--text", self.text, *QUICK],
                            "damaged.heal", "delete")

    def test_bad_input_is_named(self):
        def refused(model, out, *words, text=self.text, more=()):
            self.assert_refused(["heal", model, out, "--text", text, *QUICK, *more], *words)

        refused(self.dense, self.path("no"), "factors")
        refused(self.path("svd"), self.dense, "exists")
        refused(self.path("svd"), self.path("none", "out"), "above it")
        short = self.path("short.txt")
        with open(short, "w") as file:
            file.write("x" * 100)
        refused(self.path("svd"), self.path("no"), "100 tokens", "windows", text=short)
        refused(self.path("svd"), self.path("no"), "config.json", more=("--teacher", self.path("none")))
        refused(self.path("svd"), self.path("no"), "--distill", more=("--distill", "2"))
        refused(self.path("svd"), self.path("no"), "--minutes", more=("--minutes", "1"))
        refused(self.path("svd"), self.path("no"), "no step", more=("--learning-rate", "1e-12"))
        self.assertFalse(os.path.exists(self.path("no")))


class TrainingTest(unittest.TestCase):
    def test_every_window_once_before_any_again(self):
        batches = Batches(torch.arange(10)[:, None], 4, seed=3)
        drawn = torch.cat([batches(step) for step in range(5)]).flatten().tolist()
        self.assertEqual(sorted(drawn[:10]), list(range(10)))
        self.assertEqual(sorted(drawn[10:]), list(range(10)))
        self.assertNotEqual(drawn[:10], drawn[10:])
        self.assertTrue(torch.equal(Batches(torch.arange(10)[:, None], 4, seed=3)(3), batches(3)))

    def test_the_rate_warms_up_and_falls_to_zero(self):
        self.assertAlmostEqual(rate_factor(0, 0.0, 4), 1 / 5)
        self.assertAlmostEqual(rate_factor(9, 0.5, 4), 0.5)
        self.assertAlmostEqual(rate_factor(99, 1.0, 4), 0.0)


if __name__ == "__main__":
    unittest.main()
