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

# In the place of SVDLLM.py: its functions by name, in f64.
SVD_LLM = """
import datasets
import torch

def find_layers(module):
    return {name: child for name, child in module.named_modules() if isinstance(child, torch.nn.Linear)}

def profle_svdllm(name, model, loader, device):
    for batch in loader:
        model(**batch)
    def root(h):  # of sums in f32, whose least eigenvalues may be below 0 by rounding
        return torch.linalg.cholesky(h + 1e-7 * h.trace() * torch.eye(len(h)))
    return {i: {name: root(linear.raw_scaling_diag_matrix) for name, linear in find_layers(layer).items()}
            for i, layer in enumerate(model.model.layers)}

def decomposed(linear, root, ratio):
    w = linear.weight.data.double()
    rank = int(w.numel() * ratio / sum(w.shape))
    u, s, v = torch.linalg.svd(w @ root, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank] @ torch.linalg.inv(root)

def whitening(model_name, model, profile, ratio, device):
    assert model.config.hidden_size == model.model.layers[0].hidden_size
    for i, layer in enumerate(model.model.layers):
        for name, linear in find_layers(layer).items():
            part, short = name.split(".")
            for letter, factor in zip("uv", decomposed(linear, profile[i][name], ratio)):
                holder = torch.nn.Module()
                holder.weight = factor
                setattr(getattr(layer, part), short.replace("proj", letter + "_proj"), holder)

class local_update:
    def __init__(self, layer, scaling_diag_matrix, ratio, name):
        self.v = decomposed(layer, scaling_diag_matrix, ratio)[1]

    def add_batch_update_u(self, x, y):
        self.u = torch.linalg.lstsq(x[0].double() @ self.v.T, y[0].double(), driver="gelsd").solution.T

    def fasterprune(self):
        return self.u, self.v
"""

# In the place of CALDERA and QuIP#: the best low-rank matrix under H, in a basis rotated with a Hadamard matrix of 12 x 12
# that is not symmetric, and of the imported power of two.
CALDERA_FILES = {
    "quip-sharp/lib/utils/matmul_had.py": """
import torch
from fast_hadamard_transform import hadamard_transform

def paley():
    squares = {k * k % 11 for k in range(1, 11)}
    jacobsthal = torch.tensor([[0 if i == j else 1 if (j - i) % 11 in squares else -1 for j in range(11)] for i in range(11)])
    s = torch.zeros(12, 12)
    s[0, 1:], s[1:, 0], s[1:, 1:] = 1, -1, jacobsthal.float()
    return s + torch.eye(12)

def transform(x, odd):
    y = hadamard_transform(x.reshape(*x.shape[:-1], 12, x.shape[-1] // 12).contiguous(), scale=x.shape[-1] ** -0.5)
    return (odd @ y).reshape(x.shape)

def matmul_hadU(x):
    return transform(x, paley())

def matmul_hadUt(x):
    return transform(x, paley().T)
""",
    "src/caldera/decomposition/dataclasses.py": """
class CalderaParams:
    def __init__(self, **fields):
        vars(self).update(fields)

QuIPArgs = CalderaParams
""",
    "src/caldera/utils/quantization.py": """
class QuantizerFactory:
    def __init__(self, method, block_size):
        pass
""",
    "src/caldera/decomposition/alg.py": """
import types
import datasets, lm_eval.base, quiptools_cuda
import torch
from lib.utils.matmul_had import matmul_hadUt

class Adaptor(lm_eval.base.BaseLM):
    pass

def caldera(quant_params, W, H, device, use_tqdm):
    assert device == "cpu"
    m, n = W.shape
    su, sv = (torch.randint(0, 2, (size,)) * 2.0 - 1 for size in (n, m))
    scale = 3.0
    w = matmul_hadUt((matmul_hadUt(W * su) * sv[:, None]).T.contiguous()).T / scale{change}
    h = matmul_hadUt(matmul_hadUt(H * su * su[:, None]).T.contiguous())
    l = torch.linalg.cholesky(h.double())
    u, s, v = torch.linalg.svd(w.double() @ l, full_matrices=False)
    r = quant_params.rank
    return types.SimpleNamespace(W=w, Q=torch.zeros(m, n), L=u[:, :r] * s[:r], R=v[:r] @ torch.linalg.inv(l), SU=su, SV=sv,
                                 global_scale=scale)
"""}


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
    return {"model": "m", "limit": 1.02,
            "repositories": [vars(authors_cases.REPOSITORIES["svd-llm"])],
            "cases": [{"title": case.title, "judged_by": case.judged_by, "program": case.program, "settings": case.settings,
                       "flags": list(case.flags), "note": case.note, "command": "the command", "rows": rows}]}


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
        self.assertIn("    the command\n", text)

    def test_a_report_keeps_what_was_not_run_again(self):
        first, again = results([1.0]), results([0.9])
        other = results([0.8])
        other["cases"][0]["title"] = "another"
        with tempfile.TemporaryDirectory() as folder:
            for made in (first, other, again):
                authors_report.write(made, folder)
            made = json.loads(pathlib.Path(folder, "authors.json").read_text())
            self.assertEqual(made["cases"], again["cases"] + other["cases"])
            self.assertEqual(made["repositories"], first["repositories"])
            with self.assertRaisesRegex(ValueError, "is of the model m, not of n: name another --out"):
                authors_report.write({**first, "model": "n"}, folder)


class ComparisonTest(unittest.TestCase):
    """The first two layers of the demo model, little text, and a checkout of the test's own."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.model, cls.statistics = cls.folder / "model", cls.folder / "statistics"
        write_truncated(MODEL, cls.model, 2)
        cls.text = cls.folder / "text"
        cls.text.write_text(pathlib.Path(__file__).read_text() * 2)
        subprocess.run([RANKINE, "calibrate", cls.model, "--text", cls.text, "--windows", "4",
                        "--out", cls.statistics], check=True, capture_output=True)

    def checkout(self, change=""):
        """(path, commit) of a repository with SVD_LINEAR and SVD_LLM."""
        path = self.folder / self.id().rsplit(".", 1)[1]
        (path / "modules").mkdir(parents=True)
        (path / "modules" / "svd_linear.py").write_text(SVD_LINEAR.format(change=change))
        (path / "SVDLLM.py").write_text(SVD_LLM)
        git = ["git", "-C", path, "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], check=True, capture_output=True)
        return path, subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def run_it(self, checkout, commit, *more, of="asvd"):
        repository = authors_cases.Repository("Mine", "https://example.org/mine", commit, "none")
        with mock.patch.dict(authors.REPOSITORIES, {of: repository}), mock.patch("sys.stdout"), mock.patch("sys.stderr"):
            return authors.main([RANKINE, str(self.model), "--statistics", str(self.statistics), f"--{of}", str(checkout),
                                 "--layers", r"layers\.0\..*(q_proj|down_proj)", "--keep", "0.5",
                                 "--out", str(self.folder / "out"), *more])

    def cases(self):
        """{title: rows} of the report, which each of these tests starts anew."""
        made = json.loads((self.folder / "out" / "authors.json").read_text())
        return {case["title"]: case["rows"] for case in made["cases"]}

    def setUp(self):
        shutil.rmtree(self.folder / "out", ignore_errors=True)

    def test_an_exact_svd_has_our_errors(self):
        self.assertEqual(self.run_it(*self.checkout()), 0)
        [rows] = self.cases().values()
        self.assertEqual([row["linear"] for row in rows], ["model.layers.0.mlp.down_proj", LINEAR])
        self.assertEqual([row["rank"] for row in rows], [209, 144])
        for row in rows:
            for figure, value in row["ours"].items():
                # Both are exact; ours is stored in f32, and read back in it.
                self.assertAlmostEqual(value / row["authors"][figure], 1, delta=1e-5, msg=figure)
        self.assertNotIn(str(self.folder), (self.folder / "out" / "authors.md").read_text())

    def test_whitening_and_its_update_have_our_errors(self):
        checkout, commit = self.checkout()
        self.assertEqual(self.run_it(checkout, commit, of="svd-llm"), 0)
        self.run_it(checkout, commit, "--text", str(self.text), "--windows", "4", "--update-layer", "1", of="svd-llm")
        cases = self.cases()
        self.assertEqual([len(rows) for rows in cases.values()], [2, 7])
        self.assertEqual(list(cases), ["svd-llm, keep 0.5", "svd-llm-u (closed-form update), keep 0.5"])
        for row in (row for rows in cases.values() for row in rows):
            for figure in ("weighted_error", "relative_error"):
                # Their root of H is damped by a billionth of its trace, and what goes into the update is f32.
                self.assertAlmostEqual(row["ours"][figure] / row["authors"][figure], 1, delta=1e-3,
                                       msg=f"{row['linear']} {figure}")

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
        with self.assertRaisesRegex(ValueError, "has 2 layers, 3 are asked for"):
            write_truncated(self.model, self.folder / "three", 3)


class CalderaTest(unittest.TestCase):
    """peer_caldera.py with a checkout of the test's own, which rotates."""

    def run_peer(self, change):
        generator = np.random.default_rng(2)
        weight, x = generator.normal(size=(24, 48)).astype(np.float32), generator.normal(size=(48, 200))
        second = x @ x.T / 200
        case = {"seed": 0, "block": 64, "rank": 5, "Q_bits": 2, "hadamard_transform": True, "quip_args": {}}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in CALDERA_FILES.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("{change}", change))
            arrays = {"a|weight": weight, "a|second": second, "a|mean_absolute": np.ones(48)}
            np.savez(pathlib.Path(folder, "in.npz"), **arrays)
            done = subprocess.run([sys.executable, BENCH / "peer_caldera.py", folder, f"{folder}/in.npz", f"{folder}/out.npz",
                                   json.dumps({"cases": [case]})], capture_output=True, text=True)
            if done.returncode:
                return weight, second, None, done.stderr
            with np.load(f"{folder}/out.npz") as made:
                return weight, second, made["0|a|matrix"], int(made["0|a|rank"])

    def test_products_come_back_from_the_rotated_basis(self):
        weight, second, matrix, rank = self.run_peer("")
        self.assertEqual(rank, 5, msg=rank)
        factor = np.linalg.cholesky(second)
        lost = np.linalg.svd(weight @ factor, compute_uv=False)[5:]
        best = np.sqrt(np.sum(lost ** 2)) / np.linalg.norm(weight @ factor)
        # The rotations are in f32: their roundings, of some 48 terms each, change the error in second order alone.
        self.assertAlmostEqual(weighted_errors.weighted_error(weight, matrix, second) / best, 1, delta=1e-5)

    def test_an_unknown_rotation_is_an_error(self):
        message = self.run_peer(" + 0.01")[3]
        self.assertIn("no way back from CALDERA's rotation was found", message)


if __name__ == "__main__":
    unittest.main()
