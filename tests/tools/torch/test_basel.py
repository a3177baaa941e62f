"""`rankine_torch basel`: the budget, the choice of bases, and whole runs on a tiny model."""

import math
import os
import unittest

import safetensors.torch
import torch
from torch import nn

from schema_check import check_file
from test_heal import files, manifest
from test_model import SCHEMA
from torch_testing import NAMES, TorchCase, close, perplexity, run, run_json

from rankine_torch.bases import BasisLinear, rank_for_share, ranks_within
from rankine_torch.folder import Folder
from rankine_torch.model import load

QUICK = ("--context", 64, "--batch", 4, "--held-out", 4, "--steps", 60, "--prunings", 4, "--new-rank", 2,
         "--learning-rate", 0.1)


def basis_linear(m, n, new_rank=0, seed=0):
    torch.manual_seed(seed)
    linear = nn.Linear(n, m)
    return linear, BasisLinear(linear, new_rank, torch.Generator().manual_seed(seed))


class BasesTest(unittest.TestCase):
    def test_all_bases_are_the_linear_itself_for_few_and_many_tokens(self):
        linear, bases = basis_linear(24, 40, new_rank=3)
        for tokens in (1, 2000):
            x = torch.randn(tokens, 40)
            self.assertLess(close(bases(x).detach(), linear(x).detach()), 1e-6)

    def test_pruning_keeps_the_greatest_importances_of_either_sign(self):
        _, bases = basis_linear(6, 5)
        with torch.no_grad():
            bases.s.copy_(torch.tensor([0.1, -3.0, 2.0, 0.0, -0.5]))
        u = bases.u.clone()
        self.assertEqual(bases.prune(3).tolist(), [1, 2, 4])
        self.assertEqual(bases.s.tolist(), [-3.0, 2.0, -0.5])
        self.assertTrue(torch.equal(bases.u, u[:, [1, 2, 4]]))

    def test_what_is_stored_is_the_product(self):
        _, bases = basis_linear(12, 20, new_rank=2)
        with torch.no_grad():
            bases.s[3] *= -1
            bases.new_u.normal_()
        u, s, v = bases.stored()
        self.assertLess(close((u * s) @ v, bases.product().detach()), 1e-6)
        self.assertTrue((s.diff() <= 0).all() and (s >= 0).all())

    def test_the_share_of_the_sum_decides_the_rank(self):
        s = torch.tensor([4.0, -3.0, 2.0, 1.0])
        self.assertEqual([rank_for_share(s, share) for share in (0.0, 0.3, 0.4, 0.5, 0.7, 0.71, 1.0)],
                         [1, 1, 1, 2, 2, 3, 4])

    def test_the_budget_holds_and_is_used(self):
        layers = {str(k): basis_linear(30 + k, 40 - k, new_rank=2, seed=k)[1] for k in range(6)}
        dense = sum(m * n for m, n in (layer.shape for layer in layers.values()))
        for keep in (0.3, 0.6, 0.9):
            ranks = ranks_within(layers, keep)
            kept = sum(min((ranks[k] + 2) * sum(layer.shape), layer.shape[0] * layer.shape[1])
                       for k, layer in layers.items())
            self.assertLessEqual(kept, keep * dense)
            # One basis more in every layer would exceed it, or turns a layer dense.
            self.assertGreater(kept + sum(70 for _ in layers) * 2, keep * dense)
        self.assertIsNone(ranks_within(layers, 0.05))
        self.assertEqual(ranks_within(layers, 1.0), {k: len(layer.s) for k, layer in layers.items()})


class BaselTest(TorchCase):
    def basel(self, out, *more):
        return self.package("basel", self.dense, out, "--text", self.text, *QUICK, *more)

    def test_it_learns_on_its_target_and_repeats_to_the_bit(self):
        self.basel(self.path("a"), "--keep", "0.6")
        self.basel(self.path("b"), "--keep", "0.6")
        self.assertEqual(files(self.path("a")), files(self.path("b")))
        run_json("factorize", self.dense, self.path("svd"), "--method", "svd", "--keep", "0.6")
        self.assertLess(perplexity(self.path("a"), self.text), perplexity(self.path("svd"), self.text))
        self.assertEqual(check_file(self.path("a", "factorization.json"), SCHEMA), [])
        self.assertEqual(run("inspect", self.path("a")).returncode, 0)
        tensors = safetensors.torch.load_file(self.path("a", "model.safetensors"))
        kept = sum(t.numel() for n, t in tensors.items() if n.endswith((".U", ".V")))
        kept += sum(t.numel() for n, t in tensors.items() if n.removesuffix(".weight") in NAMES)
        self.assertLessEqual(kept, 0.6 * sum(m * n for m, n in NAMES.values()))
        for entry in manifest(self.path("a")):
            self.assertEqual(entry["provenance"]["method"], "basel")
            self.assertEqual([c["name"] for c in entry["terms"][0]["cores"]], ["U", "S", "V"])
            self.assertGreater(entry["provenance"]["relative_error"], 0)

    def test_it_says_what_it_reached_and_the_engine_agrees(self):
        printed = self.basel(self.path("said"), "--keep", "0.5", "--only", "mlp", "--skip", "layers.0", "--dtype",
                             "f32")
        self.assertIn("3 linears", printed)
        self.assertEqual({m["name"] for m in manifest(self.path("said"))},
                         {n for n in NAMES if "mlp" in n and "layers.0" not in n})
        model, _ = load(Folder(self.path("said")))
        opened = Folder(self.path("said"))
        with open(self.text) as file:
            ids = torch.tensor(opened.tokenizer().encode(file.read()).ids)
        windows = ids[:len(ids) // 64 * 64].reshape(-1, 64)
        with torch.no_grad():
            rows = model(windows[:, :-1]).logits.flatten(0, 1)
            loss = nn.functional.cross_entropy(rows, windows[:, 1:].flatten())
        self.assertAlmostEqual(loss.item(), math.log(perplexity(self.path("said"), self.text)), delta=1e-4)

    def test_bad_input_is_named(self):
        def refused(*words, more=(), model=self.dense):
            self.assert_refused(["basel", model, self.path("no"), "--text", self.text, *QUICK, *more], *words)

        refused("--keep", more=("--keep", "0.01"))
        refused("--keep", more=("--keep", "1.5"))
        refused("--only", more=("--only", "nothing"))
        refused("--only", more=("--only", "("))
        refused("config.json", model=self.path("none"))
        self.assertFalse(os.path.exists(self.path("no")))


if __name__ == "__main__":
    unittest.main()
