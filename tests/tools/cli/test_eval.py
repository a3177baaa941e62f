"""`rankine eval` on the demo model against transformers and NumPy: the same weights in float32, a 3-bit model against the
dense one. Standard errors are recomputed from the per-token values of PyTorch."""

import json
import math
import os
import shutil
import subprocess
import tempfile
import unittest

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

RANKINE = os.environ["RANKINE_BIN"]
MODEL = os.environ["RANKINE_TEST_MODEL_DIR"]
F32 = ("--compute", "f32", "--kv-dtype", "f32")
CONTEXT, WINDOWS = 64, 4
# Logits of f32 sums in different orders differ by some 1e-5 of their size (tests/models/llama_test.cc), here up to about 30.
NEAR = 2e-4


def run(*arguments):
    return subprocess.run([RANKINE, *arguments], capture_output=True, text=True, timeout=600)


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def load(path):
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def log_softmax(model, tokens):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), dim=-1)


def mean_error(samples):
    samples = np.asarray(samples, dtype=np.float64)
    return samples.mean(), samples.std(ddof=1) / math.sqrt(len(samples))


def splitmix64():
    state, mask = 0, 2**64 - 1
    while True:
        state = (state + 0x9e3779b97f4a7c15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & mask
        z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & mask
        yield z ^ (z >> 31)


class EvalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="rankine-eval-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.text = cls.path("text.txt")
        with open(unittest.__file__.replace("__init__", "case")) as source, open(cls.text, "w") as file:
            file.write(source.read()[:8000])
        # Three bits, and the same weights decoded for transformers.
        run_json("convert", MODEL, cls.path("int3"), "--encode", "int3:g64")
        run_json("export", cls.path("int3"), cls.path("dense"), "--densify", "--dtype", "f32")
        cls.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        cls.model = load(MODEL)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    def write(self, name, objects):
        with open(self.path(name), "w") as file:
            file.writelines(json.dumps(o) + "\n" for o in objects)
        return self.path(name)

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def assert_estimate(self, estimate, samples, delta):
        value, error = mean_error(samples)
        self.assertAlmostEqual(estimate["value"], value, delta=delta)
        self.assertAlmostEqual(estimate["standard_error"], error, delta=delta)

    def assert_error(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        for word in words:
            self.assertIn(word, result.stderr.strip().splitlines()[-1])

    def test_fidelity_equals_pytorch(self):
        result = run_json("eval", self.path("int3"), "--against", MODEL, "--text", self.text, "--context", str(CONTEXT),
                          "--windows", str(WINDOWS), *F32)
        with open(self.text) as file:
            ids = self.ids(file.read())
        available = len(ids) // CONTEXT
        small, kl, agree, difference, losses = load(self.path("dense")), [], [], [], []
        for k in range(WINDOWS):
            begin = k * available // WINDOWS * CONTEXT
            window = ids[begin:begin + CONTEXT]
            p, q = (log_softmax(m, window)[:-1] for m in (self.model, small))
            kl.append((p.exp() * (p - q)).sum(-1).numpy())
            agree.append((p.argmax(-1) == q.argmax(-1)).double().mean().item())
            targets = torch.tensor(window[1:])[:, None]
            losses.append(-q.gather(1, targets).mean().item())
            difference.append((p.gather(1, targets) - q.gather(1, targets)).mean().item())
        against = result["against"]
        self.assertGreater(against["kl"]["value"], 0.01)
        self.assert_estimate(against["kl"], [w.mean() for w in kl], NEAR)
        self.assert_estimate(against["log_perplexity_difference"], difference, NEAR)
        # One near tie in all positions may fall to the other side.
        self.assert_estimate(against["top1_agreement"], agree, 1.01 / (WINDOWS * (CONTEXT - 1)))
        self.assertAlmostEqual(math.log(result["perplexity"]), np.mean(losses), delta=NEAR)
        everything, draws = np.stack(kl), splitmix64()
        self.assertAlmostEqual(against["kl_p99"]["value"], np.quantile(everything, 0.99), delta=10 * NEAR)
        quantiles = [np.quantile(everything[[next(draws) % WINDOWS for _ in range(WINDOWS)]], 0.99) for _ in range(200)]
        self.assertAlmostEqual(against["kl_p99"]["standard_error"], np.std(quantiles, ddof=1), delta=10 * NEAR)
        self.assertAlmostEqual(against["kl_max"], everything.max(), delta=10 * NEAR)

    def test_choices_equal_transformers(self):
        questions = [
            {"context": "The capital of France is", "choices": [" Paris", " Berlin", " a fish"], "answer": 0},
            {"context": "Water boils at a temperature of 100 degrees", "choices": [" Fahrenheit", " Celsius"], "answer": 1},
            {"context": "import os\nprint(os.path.", "choices": ["join('a', 'b'))", "banana)"], "answer": 0},
            {"context": "Two plus two is ", "choices": ["five", "four", "an elephant"], "answer": 0},
        ]
        result = run_json("eval", MODEL, "--choices", self.write("choices.jsonl", questions), *F32)["choices"]
        right, normalised = [], []
        for question, found in zip(questions, result["log_likelihoods"], strict=True):
            context = self.ids(question["context"].rstrip(" "))
            sums = []
            for choice in question["choices"]:
                whole = self.ids(question["context"] + choice)
                rows = log_softmax(self.model, whole)
                sums.append(sum(rows[i - 1, whole[i]].item() for i in range(len(context), len(whole))))
            np.testing.assert_allclose(found, sums, atol=10 * NEAR)
            lengths = [len(choice.encode()) for choice in question["choices"]]
            right.append(float(np.argmax(sums) == question["answer"]))
            normalised.append(float(np.argmax(np.array(sums) / lengths) == question["answer"]))
        self.assertGreater(sum(right), 0)
        self.assert_estimate(result["accuracy"], right, 1e-12)
        self.assert_estimate(result["normalised_accuracy"], normalised, 1e-12)

    def tasks(self):
        fields = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
        # The demo model's first idea of this function is the factorial.
        factorial = ("t/0", "def fibonacci(n):", "\n    return 1 if n == 0 else n * fibonacci(n - 1)\n",
                     "def check(candidate):\n    assert candidate(5) == 120\n", "fibonacci")
        wrong = ("t/1", factorial[1], "\n    return n\n", "def check(candidate):\n    assert candidate(5) == 5\n", "fibonacci")
        return self.write("tasks.jsonl", [dict(zip(fields, task)) for task in (factorial, wrong)])

    def test_canonical_solutions_equal_transformers(self):
        path = self.tasks()
        result = run_json("eval", MODEL, "--humaneval", path, *F32)["humaneval"]
        losses, bits = [], []
        with open(path) as file:
            for task in map(json.loads, file):
                context, whole = self.ids(task["prompt"]), self.ids(task["prompt"] + task["canonical_solution"])
                rows = log_softmax(self.model, whole)
                loss = -sum(rows[i - 1, whole[i]].item() for i in range(len(context), len(whole)))
                losses.append(loss / (len(whole) - len(context)))
                bits.append(loss / math.log(2) / len(task["canonical_solution"].encode()))
        self.assert_estimate(result["loss_per_token"], losses, NEAR)
        self.assert_estimate(result["bits_per_byte"], bits, NEAR)
        self.assertAlmostEqual(result["perplexity"]["value"], math.exp(np.mean(losses)), delta=NEAR * math.exp(np.mean(losses)))
        self.assertNotIn("pass_at_1", result)

    def test_generated_code_runs_only_on_request(self):
        result = run_json("eval", MODEL, "--humaneval", self.tasks(), "--run-generated-code", "--max-new-tokens", "64",
                          *F32)["humaneval"]
        self.assertEqual(result["passed"], {"t/0": 1, "t/1": 0})
        self.assert_estimate(result["pass_at_1"], [1, 0], 1e-12)
        self.assertIsInstance(result["no_network"], bool)
        self.assertIsInstance(result["writes_confined"], bool)

    def test_bad_input_is_named(self):
        self.assert_error(run("eval", MODEL), "--text", "--choices", "--humaneval")
        self.assert_error(run("eval", MODEL, "--against", MODEL, "--choices", "x"), "--against", "--text")
        self.assert_error(run("eval", MODEL, "--text", self.text, "--run-generated-code"), "--humaneval")
        self.assert_error(run("eval", MODEL, "--text", self.text, "--against", self.path("none")), self.path("none"))
        empty = self.write("empty.jsonl", [])
        self.assert_error(run("eval", MODEL, "--choices", empty), empty, "no lines")
        bad = self.write("bad.jsonl", [{"context": "a", "choices": ["b", "c"], "answer": 5}])
        self.assert_error(run("eval", MODEL, "--choices", bad), "bad.jsonl:1", "answer")


if __name__ == "__main__":
    unittest.main()
