"""`rankine_torch fisher` against plain autograd, and as `rankine factorize --method fwsvd` reads it."""

import os
import subprocess
import sys
import unittest

import safetensors.torch
import torch
from tokenizers import Tokenizer

from torch_testing import NAMES, PACKAGE, TorchCase, close, run, run_json, write_model

CONTEXT, WINDOWS = 48, 3


class FisherTest(TorchCase):
    def fisher(self, model, out):
        return self.package("fisher", model, "--out", out, "--text", self.text, "--context", CONTEXT, "--windows",
                            WINDOWS)

    def direct(self, model):
        """linear -> sum over outputs of the mean over windows of the squared gradient, by the definition."""
        with open(self.text) as file:
            ids = Tokenizer.from_file(os.path.join(self.dense, "tokenizer.json")).encode(file.read()).ids
        available = len(ids) // CONTEXT
        sums = {name: torch.zeros(n, dtype=torch.float64) for name, (_, n) in NAMES.items()}
        for k in range(WINDOWS):
            begin = k * available // WINDOWS * CONTEXT
            tokens = torch.tensor([ids[begin:begin + CONTEXT]])
            model.zero_grad()
            model(tokens, labels=tokens).loss.backward()
            for name in sums:
                sums[name] += model.get_submodule(name).weight.grad.double().square().sum(0) / WINDOWS
        return sums

    def test_equals_plain_autograd(self):
        out = self.path("fisher.safetensors")
        self.assertIn("14 linears", self.fisher(self.dense, out))
        written = safetensors.torch.load_file(out)
        self.assertEqual(written.keys(), {name + ".fisher" for name in NAMES})
        for name, expected in self.direct(self.model).items():
            # Gradients in f32, summed in other orders, then squared.
            self.assertLess(close(written[name + ".fisher"], expected), 1e-4, name)

    def test_decoded_weights_of_an_encoded_model(self):
        run_json("convert", self.dense, self.path("int4"), "--encode", "int4:g32")
        run_json("export", self.path("int4"), self.path("decoded"), "--densify", "--dtype", "f32")
        self.fisher(self.path("int4"), self.path("a.safetensors"))
        self.fisher(self.path("decoded"), self.path("b.safetensors"))
        a, b = (safetensors.torch.load_file(self.path(n)) for n in ("a.safetensors", "b.safetensors"))
        for name in a:
            # One sums contractions, the other plain products.
            self.assertLess(close(a[name], b[name]), 1e-4, name)

    def test_fwsvd_reads_it_and_says_how_to_make_it(self):
        missing = run("factorize", self.dense, self.path("no"), "--method", "fwsvd", "--keep", "0.5")
        self.assertNotEqual(missing.returncode, 0)
        self.assertIn("python -m rankine_torch fisher", missing.stderr)
        self.fisher(self.dense, self.path("f.safetensors"))
        report = run_json("factorize", self.dense, self.path("fw"), "--method", "fwsvd", "--keep", "0.5", "--fisher",
                          self.path("f.safetensors"))
        self.assertEqual(len(report["layers"]), 14)
        run_json("factorize", self.dense, self.path("plain"), "--method", "svd", "--keep", "0.5")
        one, other = (safetensors.torch.load_file(self.path(n, "model.safetensors")) for n in ("fw", "plain"))
        name = "model.layers.0.mlp.up_proj.V"
        self.assertGreater(close(one[name].float().abs(), other[name].float().abs()), 1e-2)

    def test_bad_input_is_named(self):
        empty = self.path("empty.txt")
        open(empty, "w").close()
        binary = self.path("binary.txt")
        with open(binary, "wb") as file:
            file.write(b"\xff\xfe\x00")
        arguments = ["fisher", self.dense, "--out", self.path("x"), "--context", CONTEXT, "--text"]
        self.assert_refused(arguments + [empty], "0 tokens")
        self.assert_refused(arguments + [binary], "binary.txt", "UTF-8")
        self.assert_refused(arguments + [self.path("none.txt")], "none.txt")
        self.assert_refused(["fisher", self.dense, "--out", self.text, "--text", self.text], "exists")
        self.assert_refused(["fisher", self.dense, "--out", self.path("x"), "--text", self.text, "--windows", "0"],
                            "--windows")
        self.assert_refused(["other"], "other")
        run_json("factorize", self.dense, self.path("svd"), "--method", "svd", "--keep", "0.5")
        self.assert_refused(["fisher", self.path("svd")] + arguments[2:] + [self.text, "--windows", "2"], "factored")

    def test_the_process_ends_with_one_line_and_a_code(self):
        result = subprocess.run([sys.executable, "-m", "rankine_torch", "fisher", self.path("none"), "--out", "x",
                                 "--text", self.text], capture_output=True, text=True, timeout=300,
                                env={**os.environ, "PYTHONPATH": PACKAGE})
        self.assertEqual(result.returncode, 1)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("error: "), result.stderr)

    def test_a_bias_is_no_obstacle(self):
        write_model(self.path("bias"), bias=True)
        self.assertIn("14 linears", self.fisher(self.path("bias"), self.path("bias.safetensors")))


if __name__ == "__main__":
    unittest.main()
