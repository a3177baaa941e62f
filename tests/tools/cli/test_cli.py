"""The `rankine` program from outside, on the real model: the JSON that scripts rely on, and its errors."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

RANKINE = os.environ["RANKINE_BIN"]
GGUF = os.environ["RANKINE_TEST_GGUF"]
MODEL = os.environ["RANKINE_TEST_MODEL_DIR"]

FIBONACCI = ("\n    if n == 0:\n        return 1\n    return n * fibonacci(n - 1)\n\n"
             "# Test the function\nprint(fibonacci(10))  #")


def run(*arguments, **options):
    return subprocess.run([RANKINE, *arguments], capture_output=True, text=True, timeout=600, **options)


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="rankine-cli-")
        cls.text = os.path.join(cls.folder, "text.txt")
        with open(cls.text, "w") as file:
            with open(unittest.__file__.replace("__init__", "case")) as source:
                file.write(source.read())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def assert_error(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        lines = result.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("error:"), lines[0])
        for word in words:
            self.assertIn(word, lines[0])

    def test_generates_the_known_text_in_f32(self):
        answer = run_json("generate", GGUF, "--weight-dtype", "f32", "--compute", "f32", "--kv-dtype", "f32",
                          "--temperature", "0", "--max-tokens", "48", "--prompt", "def fibonacci(n):")
        self.assertTrue(answer["text"].startswith(FIBONACCI), answer["text"])
        self.assertEqual(answer["prompt_tokens"], 6)
        self.assertEqual(len(answer["token_ids"]), 48)
        self.assertEqual(answer["finish_reason"], "length")

    def test_converted_to_f32_generates_the_same(self):
        out = self.path("f32")
        run_json("convert", GGUF, out, "--dtype", "f32")
        answer = run_json("generate", out, "--compute", "f32", "--max-tokens", "48", "--prompt", "def fibonacci(n):")
        self.assertTrue(answer["text"].startswith(FIBONACCI), answer["text"])
        chat = run_json("generate", out, "--compute", "f32", "--chat", "--prompt", "What is the capital of France?")
        self.assertEqual(chat["text"], "The capital of France is Paris.")
        self.assertEqual(chat["finish_reason"], "stop_token")

    def test_plain_output_is_the_text(self):
        result = run("generate", MODEL, "--chat", "--prompt", "What is the capital of France?")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, "The capital of France is Paris.\n")

    def test_stop_strings_end_before_themselves(self):
        answer = run_json("generate", MODEL, "--prompt", "def fibonacci(n):", "--stop", "return", "--max-tokens", "40")
        self.assertEqual(answer["finish_reason"], "stop_string")
        self.assertNotIn("return", answer["text"])

    def test_a_seed_repeats_and_another_differs(self):
        def sample(seed):
            return run_json("generate", MODEL, "--prompt", "Once upon a time", "--temperature", "1", "--top-k", "50",
                            "--seed", seed, "--max-tokens", "24")["token_ids"]
        self.assertEqual(sample("7"), sample("7"))
        self.assertNotEqual(sample("7"), sample("8"))

    def test_tokenize(self):
        self.assertEqual(run_json("tokenize", MODEL, "--text", "def fibonacci(n):")["token_ids"],
                         [1604, 3987, 46477, 24, 94, 727])
        self.assertEqual(run_json("detokenize", MODEL, "--ids", "1604,3987,46477,24,94,727")["text"],
                         "def fibonacci(n):")
        # A user's text never turns into a control token unless asked.
        self.assertNotIn(1, run_json("tokenize", MODEL, "--text", "<|im_start|>")["token_ids"])
        self.assertEqual(run_json("tokenize", MODEL, "--text", "<|im_start|>", "--parse-special")["token_ids"], [1])

    def test_eval(self):
        result = run_json("eval", MODEL, "--text", self.text, "--windows", "4")
        self.assertEqual(result["tokens"], 4 * 511)
        self.assertTrue(2 < result["perplexity"] < 30, result)
        self.assertGreater(result["standard_error"], 0)

    def test_bench(self):
        report = run_json("bench", MODEL, MODEL, "--prompt-tokens", "40", "--new-tokens", "4", "--repeat", "2")
        self.assertGreater(report["read_bandwidth_bytes_per_second"], 0)
        self.assertEqual([m["path"] for m in report["models"]], [MODEL, MODEL])
        for model in report["models"]:
            for key in ("prefill_tokens_per_second", "decode_tokens_per_second", "bandwidth_share", "resident_bytes"):
                self.assertGreater(model[key], 0, key)
            # All linears and the tied output matrix, two bytes each.
            self.assertEqual(model["weight_bytes_per_token"], 2 * (49152 * 576 + 30 * (
                2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576)))

    def test_factorize_executes_factors_without_a_dense_copy(self):
        out = self.path("factored")
        report = run_json("factorize", MODEL, out, "--method", "svd-llm", "--keep", "0.5", "--calibration", self.text,
                          "--calibration-windows", "4", "--window", "128", "--only", r"layers\.[0-3]\.mlp")
        self.assertEqual(len(report["layers"]), 12)
        self.assertLessEqual(report["parameters_kept"], 0.5)
        for layer in report["layers"]:
            self.assertEqual(layer["rank"], 1536 * 576 // (2 * (1536 + 576)))
            self.assertTrue(0 < layer["weighted_error"] < layer["relative_error"] < 1, layer)
        explained = run_json("inspect", out, "--explain")
        groups = {g["name"]: g for g in explained["groups"]}
        group = groups["model.layers.0.mlp.gate_proj"]
        self.assertEqual([m["plan"] for m in group["matrices"]], ["((x V) S) U"] * 2)
        self.assertEqual([b["tokens"] for b in group["buckets"]], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
        self.assertLess(group["resident_bytes"], 0.55 * group["dense_bytes"])
        dense = run_json("inspect", MODEL, "--explain")
        saved = 4 * 3 * 1536 * 576 * 2 * 0.45
        self.assertLess(explained["weight_bytes"], dense["weight_bytes"] - saved)
        # The process itself holds no copy either: its resident set stays near the weights.
        self.assertLess(explained["resident_bytes"], explained["weight_bytes"] * 1.1)
        text = run_json("generate", out, "--prompt", "def main():", "--max-tokens", "4")
        self.assertEqual(len(text["token_ids"]), 4)

    def test_errors_are_one_line_that_names_the_thing(self):
        self.assert_error(run("generate", "/no/such/model", "--prompt", "x"), "/no/such/model")
        self.assert_error(run("generate", MODEL), "prompt")
        self.assert_error(run("generate", MODEL, "--prompt", "x", "--compute", "int8"), "int8")
        self.assert_error(run("generate", MODEL, "--prompt", "x", "--kv-dtype", "f64"), "f64")
        self.assert_error(run("generate", MODEL, "--prompt", "x", "--top-p", "3"), "top_p")
        self.assert_error(run("convert", GGUF, MODEL), MODEL)
        self.assert_error(run("convert", GGUF, self.path("x"), "--dtype", "int3"), "int3")
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "magic"), "magic")
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "svd", "--keep", "1.5"), "keep")
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "svd", "--only", "no_such"), "no_such")
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "svd", "--only", "["), "[")
        self.assert_error(run("eval", MODEL, "--text", self.path("missing.txt")), "missing.txt")
        self.assert_error(run("bench", MODEL, "--prompt-tokens", "9000"), "8192")
        self.assert_error(run("client", "127.0.0.1:1", "--prompt", "x"), "127.0.0.1:1")
        self.assert_error(run("frobnicate"), "frobnicate")

    def test_an_interrupted_convert_leaves_no_model(self):
        out = self.path("interrupted")
        process = subprocess.Popen([RANKINE, "convert", GGUF, out, "--dtype", "f32"], stderr=subprocess.DEVNULL)
        while not any(name.startswith("interrupted") for name in os.listdir(self.folder)):
            if process.poll() is not None:
                break
        process.kill()
        process.wait()
        if os.path.exists(out):
            self.assertEqual(process.returncode, 0)  # it had finished before the kill
        else:
            run_json("convert", GGUF, out)
        self.assertEqual(run_json("tokenize", out, "--text", "a")["token_ids"], [81])

    def test_chat_keeps_history(self):
        result = run("chat", MODEL, "--json", "--max-tokens", "8", input="My name is Ada.\nWhat is my name?\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        first, second = (json.loads(line) for line in result.stdout.splitlines())
        # The second prompt holds the first, its answer and the new question.
        self.assertGreater(second["prompt_tokens"], first["prompt_tokens"] + len(first["token_ids"]) + 5)


if __name__ == "__main__":
    unittest.main()
