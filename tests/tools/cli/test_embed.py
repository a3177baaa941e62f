"""`rankine embed` and probes from outside, on a small random BERT against transformers' embeddings."""

import ast
import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

RANKINE = os.environ["RANKINE_BIN"]
LLAMA = os.environ["RANKINE_TEST_MODEL_DIR"]
BERT = str(pathlib.Path(__file__).resolve().parents[2] / "data" / "bert" / "plain")
GOLDEN = json.loads((pathlib.Path(BERT) / "embeddings.json").read_text())


def run(*arguments):
    return subprocess.run([RANKINE, *map(str, arguments)], capture_output=True, text=True, timeout=600)


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def read_npy(path):
    """Shape and values of a little-endian float32 array, as NumPy's format 1.0 says."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    size = struct.unpack("<H", data[8:10])[0]
    assert (10 + size) % 64 == 0
    header = ast.literal_eval(data[10:10 + size].decode())
    assert header["descr"] == "<f4" and header["fortran_order"] is False
    count = math.prod(header["shape"])
    return header["shape"], struct.unpack(f"<{count}f", data[10 + size:])


class EmbedTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rankine-embed-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.texts = self.folder / "texts.txt"
        self.texts.write_text("".join(row["text"] + "\n" for row in GOLDEN))
        # Two kinds of text that the vocabulary of symbols and digits tells apart.
        self.probe = self.folder / "probe.tsv"
        kinds = (("( ) + *", "symbol"), ("1 2 3 4", "digit"))
        rows = ((" ".join((text.split() * 2)[i % 4:i % 4 + 1 + i % 3]), kind) for i in range(30) for text, kind in kinds)
        self.probe.write_text("".join(f"{text}\t{kind}\n" for text, kind in rows))

    def assert_error(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        lines = result.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        for word in ("error:", *words):
            self.assertIn(word, lines[0])

    def assert_near(self, values, golden):
        distance = math.dist(values, golden) / math.hypot(*golden)
        self.assertLess(distance, 5e-6)  # tests/models/bert_test.cc says why

    def test_json_lines_are_transformers_embeddings(self):
        for pooling in ("mean", "cls"):
            result = run("embed", BERT, "--text", self.texts, "--pooling", pooling)
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual([line["index"] for line in lines], list(range(len(GOLDEN))))
            for line, golden in zip(lines, GOLDEN):
                self.assertEqual(line["tokens"], len(golden["token_ids"]))
                self.assert_near(line["embedding"], golden[pooling])

    def test_npy_holds_the_same(self):
        out = self.folder / "e.npy"
        inputs = [word for row in GOLDEN for word in ("--input", row["text"])]
        self.assertEqual(run("embed", BERT, *inputs, "--out", out).returncode, 0)
        shape, values = read_npy(out)
        self.assertEqual(shape, (len(GOLDEN), 32))
        self.assert_near(values[:32], GOLDEN[0]["mean"])
        self.assert_error(run("embed", BERT, *inputs, "--out", out), str(out))

    def test_probe_tells_kinds_apart_and_measures_fidelity(self):
        out = self.folder / "factored"
        report = run_json("factorize", BERT, out, "--method", "svd", "--keep", "0.7", "--factor-dtype", "f32")
        self.assertLessEqual(report["parameters_kept"], 0.7)
        self.assertEqual(len(run_json("inspect", out)["factored"]), 12)
        same = run_json("eval", BERT, "--probe", self.probe, "--against", BERT)
        self.assertGreater(same["accuracy"], 0.9)
        self.assertEqual(same["labels"], ["digit", "symbol"])
        self.assertEqual(same["texts"], 60)
        self.assertEqual(same["against"]["difference"], 0)
        self.assertAlmostEqual(same["against"]["cosine_min"], 1, places=6)
        factored = run_json("eval", out, "--probe", self.probe, "--against", BERT, "--probe-test", self.probe)
        self.assertLess(factored["against"]["cosine_mean"], 0.9999)
        self.assertGreater(factored["against"]["cosine_mean"], 0.3)

    def test_calibrated_methods_factorize_it(self):
        text = self.folder / "text.txt"
        text.write_text("( ) + * 1 2 3 4 5 6 a b c = ? ! " * 200)
        out = self.folder / "calibrated"
        run_json("factorize", BERT, out, "--method", "svd-llm", "--keep", "0.6", "--calibration", text, "--window", "40",
                 "--calibration-windows", "16", "--factor-dtype", "f32", "--only", "attention")
        factored = run_json("inspect", out)["factored"]
        self.assertEqual(len(factored), 8)
        self.assertTrue(all(0 <= matrix["weighted_error"] < matrix["relative_error"] for matrix in factored))

    def test_bad_use_is_named(self):
        self.assert_error(run("embed", BERT), "--text", "--input")
        self.assert_error(run("embed", LLAMA, "--input", "x"), "not an encoder")
        self.assert_error(run("embed", BERT, "--input", "x", "--pooling", "max"), "pooling 'max'")
        self.assert_error(run("embed", BERT, "--input", "x", "--max-tokens", "71"), "70 positions")
        self.assert_error(run("embed", BERT, "--text", self.folder / "none"), "none")
        self.assert_error(run("generate", BERT, "--prompt", "x"), "encoder")
        self.assert_error(run("bench", BERT), "encoder")
        self.assert_error(run("eval", BERT, "--text", self.texts), "encoder", "--probe")
        self.assert_error(run("eval", BERT), "--text", "--probe")
        self.assert_error(run("eval", BERT, "--text", self.texts, "--against", BERT), "--probe")
        self.assert_error(run("eval", LLAMA, "--probe", self.probe), "not an encoder")
        self.assert_error(run("eval", BERT, "--probe", self.texts), "line 1 has no label")
        self.assert_error(run("eval", BERT, "--probe", self.probe, "--probe-folds", "40"), "fewer than the 40 folds")
        self.assert_error(run("eval", BERT, "--probe", self.probe, "--probe-c", "0"), "C must be positive")


if __name__ == "__main__":
    unittest.main()
