"""bench/quality/methods.py: its points are every method that the program has, and its table says what explore measured."""

import csv
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/quality"))
import methods  # noqa: E402

RANKINE = os.environ["RANKINE_BIN"]


class MethodsTest(unittest.TestCase):
    def test_every_method_of_the_program_is_a_point(self):
        help_text = subprocess.run([RANKINE, "factorize", "--help"], capture_output=True, text=True, check=True).stdout
        listed = re.search(r"--method TEXT REQUIRED(.*?)\n  --alpha", help_text, re.S)[1]
        known = set(re.findall(r"^ +([a-z][a-z-]*): ", listed, re.M))
        lines = list(methods.points("text.txt", "fisher.safetensors", "validation.txt", "losses"))
        used = set(re.findall(r"--method (\S+)", "\n".join(lines)))
        # laser reduces a few chosen linears; at a budget for all of them it is svd.
        self.assertEqual(used, known - {"laser"})
        names = [line.split(" --", 1)[0] for line in lines]
        self.assertEqual(len(names), len(set(names)))

    def test_the_table_goes_by_size_then_by_loss(self):
        columns = ["name", "kind", "linear bytes", "bits per weight", "mean relative error", "mean weighted error",
                   "code perplexity", "code log perplexity difference", "code log perplexity difference standard error",
                   "code KL", "code KL standard error", "decode ratio to dense", "decode ratio to dense low",
                   "decode ratio to dense high", "make seconds"]
        rows = [["worse", "factorize", 9e6, 3.5, 0.25, 0.125, 20, 0.75, 0.0625, 0.5, 0.03, 1.5, 1.25, 1.75, 12],
                ["better", "factorize", 9e6, 3.52, "", "", 10, 0.25, 0.0625, 0.5, 0.03, "", "", "", ""],
                ["larger", "encode", 10e6, 4.5, "", "", 30, 1, 0.0625, 0.5, 0.03, "", "", "", ""],
                ["dense", "dense", 20e6, 16, 0, 0, 8, 0, 0, 0, 0, 1, 1, 1, ""],
                ["as shipped", "baseline", 12e6, 5, "", "", 8.5, 0.1, 0.01, 0.05, 0.01, 2, 2, 2, ""]]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            with open(path / "points.csv", "w", newline="") as file:
                csv.writer(file).writerows([columns, *rows])
            (path / "methods.points").write_text("better --method a\nworse --method b\nnever made --method c\n")
            (path / "explore.json").write_text('{"device": "cpu"}')
            methods.write_table(path, ["code"], 4)
            lines = (path / "methods.md").read_text().splitlines()
        names = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")]
        self.assertEqual(names[1:], ["as shipped", "dense", "larger", "better", "worse"])
        self.assertEqual(lines[-1], "Not measured: never made.")
        self.assertEqual(lines[-3], "| worse | 9.0 | 3.50 | 0.250 | 0.125 | 20.00 | 0.750 +- 0.062 | 0.500 +- 0.030 "
                                    "| 1.50 [1.25, 1.75] | 12 |")


if __name__ == "__main__":
    unittest.main()
