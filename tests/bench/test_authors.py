"""bench/quality/authors.py without the authors: its files, figures and tables; and a whole comparison with a checkout of the
test's own, whose SVD is NumPy's."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench" / "quality"
sys.path.insert(0, str(BENCH))
import authors
import authors_cases
import authors_report
import model_files
import weighted_errors
from truncated_model import write_truncated

RANKINE = os.environ["RANKINE_BIN"]
MODEL = os.environ["RANKINE_TEST_MODEL_DIR"]
LINEAR = "model.layers.0.self_attn.q_proj"

# In the place of ASVD's modules/svd_linear.py: the same interface, an exact SVD, {change} to be told from it.
SVD_LINEAR = """
import torch


class SVDLinear:
    @staticmethod
    def from_linear(linear, param_ratio, act_aware, alpha):
        assert act_aware
        weight, scale = linear.weight.data.double(), linear.scaling_diag_matrix.double() ** alpha
        rank = int(weight.numel() * param_ratio) // sum(weight.shape){change}
        u, s, v = torch.linalg.svd(weight * scale, full_matrices=False)
        made = SVDLinear()
        made.ALinear, made.BLinear = torch.nn.Module(), torch.nn.Module()
        made.ALinear.weight, made.BLinear.weight = u[:, :rank] * s[:rank], v[:rank] / scale
        made.truncation_rank = rank
        return made
"""


def record(header, payload, size=None):
    text = json.dumps(header).encode()
    return b"RKRECORD1\n" + b"0" * 32 + b"\n" + str(size or len(text)).encode() + b"\n" + text + payload


class FilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_statistics_are_read_as_they_are_laid_out(self):
        groups = [{"linears": ["a", "b"], "tokens": 7, "features": 2, "group_tokens": [4, 3]},
                  {"linears": ["c"], "tokens": 7, "features": 1, "group_tokens": [7]}]
        values = np.array([1, 2, 3, 4, 10, 11, 12, 13, 5, 6, 8] + [20, 21, 22, 23], "<f8")
        path = self.folder / "layer_00003.statistics"
        path.write_bytes(record({"stamp": "x", "groups": groups}, values.tobytes()))
        read = model_files.read_statistics(self.folder, [3])
        self.assertEqual(sorted(read), ["a", "b", "c"])
        np.testing.assert_array_equal(read["b"]["second"], [[5, 6], [6, 8]])
        np.testing.assert_array_equal(read["b"]["mean_absolute"], [3, 4])
        np.testing.assert_array_equal(read["c"]["second"], [[23]])
        self.assertEqual(read["a"]["tokens"], 7)

        path.write_bytes(record({"stamp": "x", "groups": groups}, values.tobytes()[:-8]))
        with self.assertRaisesRegex(model_files.FileError, "layer_00003.statistics is shorter than its header says"):
            model_files.read_statistics(self.folder, [3])
        path.write_bytes(b"PK\3\4")
        with self.assertRaisesRegex(model_files.FileError, "not a record of rankine calibrate"):
            model_files.read_statistics(self.folder, [3])
        with self.assertRaisesRegex(model_files.FileError, "layer_00004.statistics does not exist: make it with"):
            model_files.read_statistics(self.folder, [4])

    def test_weights_are_read_exactly(self):
        values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
        bf16 = (values.view(np.uint32) >> 16).astype("<u2")
        model_files.write_safetensors(self.folder / "model.safetensors", {
            "b": ("BF16", [2, 2], bf16.tobytes()), "h": ("F16", [4], values.astype("<f2").tobytes()),
            "f": ("F32", [2, 2], values.tobytes()), "u": ("U8", [1], b"1")})
        weights = model_files.Weights(self.folder)
        for name in "bf":
            np.testing.assert_array_equal(weights.read(name), values)
        np.testing.assert_array_equal(weights.read("h"), values.ravel())
        with self.assertRaisesRegex(model_files.FileError, "u has dtype U8"):
            weights.read("u")
        with self.assertRaisesRegex(model_files.FileError, "no tensor z"):
            weights.read("z")
        with self.assertRaisesRegex(model_files.FileError, "holds no safetensors file"):
            model_files.Weights(self.folder / "none")

    def test_ranks_are_those_of_the_last_term(self):
        def core(*legs):
            return {"legs": [{"name": name, "extent": extent} for name, extent in legs]}
        matrix = {"name": "a", "output_legs": [{"name": "o"}], "input_legs": [{"name": "i"}],
                  "provenance": {"weighted_error": 0.5},
                  "terms": [{"cores": [core(("o", 4), ("i", 6))]},
                            {"cores": [core(("o", 4), ("r", 2)), core(("r", 2), ("i", 6))]}]}
        path = self.folder / "factorization.json"
        path.write_text(json.dumps({"matrices": [matrix]}))
        self.assertEqual(model_files.read_provenance(self.folder), {"a": {"weighted_error": 0.5, "rank": 2}})
        matrix["terms"].pop()
        path.write_text(json.dumps({"matrices": [matrix]}))
        with self.assertRaisesRegex(model_files.FileError, "a is not of one rank"):
            model_files.read_provenance(self.folder)


class FiguresTest(unittest.TestCase):
    def test_errors_are_those_of_the_root_of_h(self):
        generator = np.random.default_rng(1)
        weight, other = generator.normal(size=(2, 5, 7))
        x = generator.normal(size=(7, 30))
        second = x @ x.T / 30
        # ||A H^1/2|| is ||A X|| / sqrt(T); a sum of 150 products differs by its rounding alone.
        expected = np.linalg.norm((weight - other) @ x) / np.linalg.norm(weight @ x)
        self.assertAlmostEqual(weighted_errors.weighted_error(weight, other, second), expected, delta=150 * 2**-52 * 10)
        figures = weighted_errors.figures(weight, other, second, np.abs(x).mean(1), 0.5)
        scale = np.diag(np.sqrt(np.abs(x).mean(1)))
        self.assertAlmostEqual(figures["scaled_error"],
                               np.linalg.norm((weight - other) @ scale) / np.linalg.norm(weight @ scale))
        self.assertAlmostEqual(figures["relative_error"], np.linalg.norm(weight - other) / np.linalg.norm(weight))

    def test_what_is_no_approximation_is_refused(self):
        weight, second = np.ones((2, 3)), np.eye(3)
        for other, message in ((np.ones((3, 2)), "came back for one of"), (np.full((2, 3), np.nan), "NaN or infinity")):
            with self.assertRaisesRegex(ValueError, message):
                weighted_errors.figures(weight, other, second, np.ones(3), 0.5)


def results(ratios):
    rows = [{"linear": f"model.layers.{k}.self_attn.q_proj", "rank": 9,
             "authors": {"weighted_error": 0.5, "relative_error": 0.25, "scaled_error": 0.125},
             "ours": {"weighted_error": 0.5 * ratio, "relative_error": 0.25, "scaled_error": 0.125}}
            for k, ratio in enumerate(ratios)]
    case = authors_cases.svd_llm(0.8)
    return {"model": "m", "command": "the command", "limit": 1.02,
            "repositories": [vars(authors_cases.REPOSITORIES["svd-llm"])],
            "cases": [{"title": case.title, "judged_by": case.judged_by, "program": case.program, "settings": case.settings,
                       "flags": list(case.flags), "note": case.note, "rows": rows}]}


class ReportTest(unittest.TestCase):
    def test_tables_show_every_row_and_what_is_worse(self):
        made = results([1.0, 0.5, 1.04])
        self.assertEqual(authors_report.worse(made), [("svd-llm, keep 0.8", "model.layers.2.self_attn.q_proj", 1.04)])
        self.assertEqual(authors_report.summary(made["cases"][0]), (0.5, 1.0, 1.04))
        with tempfile.TemporaryDirectory() as folder:
            authors_report.write(made, folder)
            text = pathlib.Path(folder, "authors.md").read_text()
            self.assertEqual(json.loads(pathlib.Path(folder, "authors.json").read_text()), made)
        for line in ("| svd-llm, keep 0.8 | weighted by H | 0.5000 | 1.0000 | 1.0400 | 1 of 3 |",
                     "| 1.q_proj | 9 | 0.50000 | 0.25000 | 0.5000 | 0.25000 | 0.25000 | 1.0000 |",
                     "| [SVD-LLM](https://github.com/AIoT-MLSys-Lab/SVD-LLM) | 1c1009a99bea | Apache-2.0 |"):
            self.assertIn(line, text)
        self.assertIn("the command", text)


class ComparisonTest(unittest.TestCase):
    """The first layer of the demo model, little text, and a checkout of the test's own."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.model, cls.statistics = cls.folder / "model", cls.folder / "statistics"
        write_truncated(MODEL, cls.model, 1)
        text = cls.folder / "text"
        text.write_text(pathlib.Path(__file__).read_text() * 2)
        subprocess.run([RANKINE, "calibrate", cls.model, "--text", text, "--windows", "2", "--window", "512",
                        "--out", cls.statistics], check=True, capture_output=True)

    def checkout(self, change=""):
        """(path, commit) of a repository with SVD_LINEAR."""
        path = self.folder / self.id().rsplit(".", 1)[1]
        (path / "modules").mkdir(parents=True)
        (path / "modules" / "svd_linear.py").write_text(SVD_LINEAR.format(change=change))
        git = ["git", "-C", path, "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], check=True, capture_output=True)
        return path, subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def run_it(self, checkout, commit, *more):
        repository = authors_cases.Repository("Mine", "https://example.org/mine", commit, "none")
        with mock.patch.dict(authors.REPOSITORIES, asvd=repository), mock.patch("sys.stdout"), mock.patch("sys.stderr"):
            return authors.main([RANKINE, str(self.model), "--statistics", str(self.statistics), "--asvd", str(checkout),
                                 "--layers", "q_proj|down_proj", "--keep", "0.5", "--out", str(self.folder / "out"), *more])

    def test_an_exact_svd_has_our_errors(self):
        self.assertEqual(self.run_it(*self.checkout()), 0)
        made = json.loads((self.folder / "out" / "authors.json").read_text())
        [case] = made["cases"]
        self.assertEqual([row["linear"] for row in case["rows"]], ["model.layers.0.mlp.down_proj", LINEAR])
        self.assertEqual([row["rank"] for row in case["rows"]], [209, 144])
        for row in case["rows"]:
            for figure, value in row["ours"].items():
                # Both are exact; ours is stored in f32, and read back in it.
                self.assertAlmostEqual(value / row["authors"][figure], 1, delta=1e-5, msg=figure)
        self.assertEqual(made["model"], "model")
        self.assertNotIn(str(self.folder), (self.folder / "out" / "authors.md").read_text())

    def test_other_ranks_and_other_commits_are_errors(self):
        checkout, commit = self.checkout(change=" + 1")
        with self.assertRaisesRegex(SystemExit, "down_proj: the authors' code took rank 210, rankine 209"):
            self.run_it(checkout, commit)
        with self.assertRaisesRegex(SystemExit, f"is at {commit}, the comparison is with Mine at {'0' * 40}: git -C"):
            self.run_it(checkout, "0" * 40)
        with self.assertRaisesRegex(SystemExit, "--layers nothing selects no linear"):
            self.run_it(checkout, commit, "--layers", "nothing")
        with self.assertRaisesRegex(SystemExit, "name a checkout: --svd-llm"):
            authors.main([RANKINE, str(self.model), "--statistics", str(self.statistics), "--out", "x"])

    def test_a_program_that_fails_is_quoted(self):
        checkout, commit = self.checkout(change=" - {}")
        with self.assertRaisesRegex(SystemExit, r"(?s)the authors' code in .* failed: .*TypeError"):
            self.run_it(checkout, commit)

    def test_truncated_models_are_checked(self):
        with self.assertRaisesRegex(ValueError, "has 1 layers, 2 are asked for"):
            write_truncated(self.model, self.folder / "two", 2)
        shutil.rmtree(self.folder / "two")


if __name__ == "__main__":
    unittest.main()
