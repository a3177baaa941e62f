"""The `rankine` program from outside, on the real model: the JSON that scripts rely on, and its errors."""

import json
import os
import re
import shutil
import signal
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
            # All linears and the tied output matrix, two bytes and two operations each.
            weights = 49152 * 576 + 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576)
            self.assertEqual(model["weight_bytes_per_token"], 2 * weights)
            self.assertEqual(model["operations_per_token"], 2 * weights)
            for total, part in (("weight_bytes_per_token", "weight_bytes"), ("operations_per_token", "operations")):
                self.assertEqual(model[total], sum(group["count"] * group[part] for group in model["groups"]))
            self.assertEqual(sum(group["count"] for group in model["groups"]), 4 * 30 + 1)

    def test_bench_on_request_gives_a_sample_for_each_line(self):
        result = run("bench", MODEL, "--prompt-tokens", "8", "--new-tokens", "2", "--sequences", "3", "--json",
                     "--on-request", input="\n\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([sorted(line)[0] for line in lines[:-1]], ["ready", "samples", "ready", "samples", "ready"])
        for line in lines[1:-1:2]:
            self.assertEqual(len(line["samples"]), 1)
            self.assertTrue(all(value > 0 for value in line["samples"][0].values()), line)
        self.assertEqual(lines[-1]["sequences"], 3)

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
        # A sanitizer keeps what was freed, and a shadow of everything.
        overhead = 3 if os.environ.get("RANKINE_SANITIZE") else 1.1
        self.assertLess(explained["resident_bytes"], explained["weight_bytes"] * overhead)
        text = run_json("generate", out, "--prompt", "def main():", "--max-tokens", "4")
        self.assertEqual(len(text["token_ids"]), 4)

    def test_factorize_reports_what_a_search_has_seen(self):
        validation, losses = self.path("validation.txt"), self.path("losses")
        with open(validation, "w") as out:
            out.write("def area(width, height):\n    return width * height\n" * 20)
        flags = ("--method", "laser", "--only", r"layers\.29\.mlp\.(up|down)", "--validation", validation,
                 "--validation-windows", "2", "--validation-window", "64", "--search-shares", "0.1,0.9",
                 "--search-file", losses)
        search = run_json("factorize", MODEL, self.path("laser"), *flags)["search"]
        self.assertEqual(search["measured"], 5)
        for loss in (search["unchanged"], search["planned"], search["best_single"]):
            self.assertGreater(loss["loss"], 0)
            self.assertIsNotNone(loss["standard_error"])
        self.assertLessEqual(search["planned"]["loss"], search["unchanged"]["loss"])
        self.assertRegex(search["best_single"]["linear"], r"layers\.29\.mlp\.(up|down)_proj")
        with open(losses) as measured:
            header, *points = map(json.loads, measured)
        self.assertEqual(header["format"], "rankine-measured-losses")
        self.assertEqual(len(points), 5)
        text = run("factorize", MODEL, self.path("again"), *flags).stdout
        self.assertIn("best single intervention", text)
        self.assertIn("over the model as it is", text)
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "svd", "--allocation", "sensitivity"),
                          "--validation")

    def test_inspect_says_which_linears_share_cores(self):
        out = self.path("stacked")
        run("factorize", MODEL, out, "--method", "tucker", "--stack", "qkv", "--weighting", "none", "--keep", "0.8",
            "--only", "layers\\.3\\.self_attn\\.(q|k|v)")
        sharing = {m["name"]: m["shares_cores"] for m in run_json("inspect", out)["factored"]}
        self.assertEqual(sharing, {f"model.layers.3.self_attn.{name}_proj": True for name in "qkv"})
        self.assertIn("cores of other linears among them", run("inspect", out).stdout)
        alone = self.path("alone")
        run("factorize", MODEL, alone, "--method", "svd", "--keep", "0.8", "--only", "layers\\.3\\.mlp")
        self.assertFalse(any(m["shares_cores"] for m in run_json("inspect", alone)["factored"]))
        self.assertNotIn("cores of other linears", run("inspect", alone).stdout)

    def test_synth_writes_a_random_model_that_runs(self):
        out = self.path("synth")
        made = run_json("synth", out, "--shape", "smollm2-135m", "--layers", "2", "--form", "svd", "--keep", "0.5")
        self.assertEqual(made["linears"], 14)
        self.assertLess(made["stored_parameters"], 0.505 * made["dense_parameters"])
        self.assertTrue(run_json("inspect", out)["random_weights"])
        self.assertFalse(run_json("inspect", MODEL)["random_weights"])
        self.assertIn("random weights", run("inspect", out).stdout)
        report = run_json("bench", out, "--prompt-tokens", "8", "--new-tokens", "2", "--repeat", "1")
        self.assertGreater(report["models"][0]["decode_tokens_per_second"], 0)
        # A token is a byte, so that what reads text runs too.
        self.assertEqual(run_json("tokenize", out, "--text", "a\u00e9")["token_ids"], [0x61, 0xc3, 0xa9])
        self.assertEqual(run_json("generate", out, "--prompt", "x", "--max-tokens", "2", "--ignore-eos")["prompt_tokens"], 1)
        text = self.path("bytes.txt")
        with open(text, "w") as file:
            file.write("some text of many bytes " * 30)
        dense = self.path("synth-dense")
        run("synth", dense, "--shape", "smollm2-135m", "--layers", "1")
        layers = run_json("factorize", dense, self.path("synth-factors"), "--method", "svd-llm", "--keep", "0.5",
                          "--calibration", text, "--calibration-windows", "1", "--only", "k_proj")["layers"]
        self.assertEqual([layer["name"] for layer in layers], ["model.layers.0.self_attn.k_proj"])
        for flags, word in ((("--shape", "gpt"), "gpt"), (("--form", "svd"), "--keep"),
                            (("--form", "cp"), "cp"), (("--encode", "int7"), "int7"),
                            (("--keep", "0.5"), "--keep"), (("--layers", "0"), "--layers")):
            given = flags if "--shape" in flags else ("--shape", "smollm2-135m", *flags)
            self.assert_error(run("synth", self.path("bad"), *given), word)
        self.assertFalse(os.path.exists(self.path("bad")))

    def test_errors_are_one_line_that_names_the_thing(self):
        self.assert_error(run("generate", "/no/such/model", "--prompt", "x"), "/no/such/model")
        self.assert_error(run("generate", MODEL), "prompt")
        self.assert_error(run("generate", MODEL, "--prompt", "x", "--compute", "int9"), "int9")
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
        self.assert_error(run("factorize", MODEL, self.path("x"), "--method", "svd-llm", "--calibration",
                              self.path("missing.txt")), "missing.txt")
        self.assert_error(run("factorize", MODEL, self.path("x" * 300), "--method", "svd"), "x" * 300)
        self.assert_error(run("tokenize", MODEL), "--text", "--file")
        self.assert_error(run("bench", MODEL, "--prompt-tokens", str(2**63 - 1)), "--prompt-tokens")
        self.assert_error(run("bench", MODEL, "--new-tokens", "0"), "--new-tokens")
        self.assert_error(run("client", "127.0.0.1:1", "--prompt", "x", "--deadline-seconds", "1e300"), "--deadline")
        self.assert_error(run("generate", MODEL, "--prompt", "x", "--max-tokens", "3000000000"), "--max-tokens")

    def test_a_path_that_is_no_utf8_is_shown_in_json(self):
        link = os.path.join(self.folder.encode(), b"caf\xe9")
        os.symlink(MODEL, link)
        self.assertTrue(run_json("inspect", link)["path"].endswith("/caf\ufffd"))

    def test_an_empty_text_is_a_text(self):
        self.assertEqual(run_json("tokenize", MODEL, "--text", "")["token_ids"], [])

    def test_output_that_cannot_be_written_is_an_error(self):
        for command in (["--version"], ["inspect", MODEL], ["tokenize", MODEL, "--text", "a", "--json"],
                        ["generate", MODEL, "--prompt", "a", "--max-tokens", "4"]):
            with self.subTest(command[0]), open("/dev/full", "w") as full:
                result = subprocess.run([RANKINE, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=600)
                self.assertEqual(result.stderr, "error: cannot write to standard output\n")
                self.assertEqual(result.returncode, 1)

    def check_ends_quietly_without_a_reader(self, *command):
        process = subprocess.Popen([RANKINE, *command, "--prompt", "def fibonacci(n):", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.stdout.close()  # long before its 8000 tokens are done
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(timeout=600), 0)

    def test_without_a_reader_generate_and_client_end_quietly(self):
        self.check_ends_quietly_without_a_reader("generate", MODEL, "--max-tokens", "8000")
        server = subprocess.Popen([RANKINE, "serve", MODEL, "--listen", "127.0.0.1:0", "--json"],
                                  stdout=subprocess.PIPE, text=True)
        try:
            ready = json.loads(server.stdout.readline())
            self.assertEqual(ready["model"], MODEL)
            self.check_ends_quietly_without_a_reader("client", ready["address"], "--max-tokens", "8000")
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def test_on_a_terminal_an_error_or_ctrl_c_ends_one_turn_only(self):
        main, terminal = os.openpty()
        # Not the controlling terminal: Ctrl-C comes as the signal that it would send.
        process = subprocess.Popen([RANKINE, "chat", MODEL, "--ignore-eos"], stdin=terminal, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        os.close(terminal)
        try:
            out = iter(lambda: process.stdout.read(1), b"")
            os.write(main, b"My name is Ada.\n")
            seen = b""
            while not seen.partition(b"\n> ")[2]:  # the first piece of the answer
                seen += next(out)
            process.send_signal(signal.SIGINT)
            while not seen.endswith(b"\n> "):  # it asks again
                seen += next(out)
            os.write(main, b"/quit\n")
            errors = process.stderr.read().decode()
            self.assertEqual(process.wait(timeout=600), 0, errors)
            self.assertEqual(errors.count("error:"), 1, errors)
            self.assertIn("this turn is forgotten", errors)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
            os.close(main)

    def test_an_interrupted_convert_leaves_no_model(self):
        out = self.path("interrupted")
        process = subprocess.Popen([RANKINE, "convert", GGUF, out, "--dtype", "f32"], stderr=subprocess.DEVNULL)
        while not any(name.startswith("interrupted") for name in os.listdir(self.folder)):
            if process.poll() is not None:
                break
        process.kill()
        process.wait()
        if not os.path.exists(out):  # else it had been renamed before the kill, perhaps a moment before
            run_json("convert", GGUF, out)
        self.assertEqual(run_json("tokenize", out, "--text", "a")["token_ids"], [81])

    def test_convert_encodes_and_says_what_each_matrix_takes(self):
        made = run_json("convert", GGUF, self.path("int4"), "--encode", "int4:g64")
        self.assertEqual(len(made["encoded"]), 210)
        self.assertEqual(made["unmatched_linears"], [])
        self.assertTrue(all(0 < core["relative_error"] < 0.15 for core in made["encoded"]))
        told = run_json("inspect", self.path("int4"))
        uses = {use["encoding"]: use for use in told["encodings"]}
        self.assertEqual(set(uses), {"int4:g64", "bf16"})  # the embedding stays bf16
        self.assertEqual(uses["int4:g64"]["bits_per_number"], 4.25)
        self.assertEqual(told["bits_per_weight"], made["bits_per_weight"])
        self.assertIn("int4:g64", run("inspect", self.path("int4")).stdout)
        # Blocks that are kept take what they took in the GGUF file.
        run_json("convert", GGUF, self.path("keep"), "--encode", "keep")
        before, after = (run_json("inspect", model) for model in (GGUF, self.path("keep")))
        self.assertEqual(before["bits_per_weight"], after["bits_per_weight"])
        self.assertEqual({(u["encoding"], u["ggml"]) for u in before["encodings"]},
                         {("int4:g32:offset", "Q4_1"), ("int8:g32", "Q8_0")})
        self.assertEqual({u["encoding"] for u in after["encodings"]}, {"int4:g32:offset", "int8:g32"})

    def test_pivoting_a_factored_model_changes_its_numbers_and_not_its_output(self):
        factored, pivoted = self.path("usv"), self.path("pivoted")
        run_json("factorize", MODEL, factored, "--method", "svd", "--keep", "0.8", "--only", "layers\\.3\\.(mlp|self_attn.q)")
        made = run_json("convert", "--pivot", factored, pivoted, "--dtype", "f32")
        self.assertEqual([(p["pivoted"], p["kept"]) for p in made["pivots"]], [(True, "")] * 4)
        for pivot in made["pivots"]:
            self.assertEqual(pivot["parameters_before"] - pivot["parameters"], pivot["rank"] ** 2)
            self.assertLess(pivot["relative_error"], 1e-6)  # of two f32 roundings
        perplexities = [run_json("eval", model, "--text", self.text, "--windows", "1", "--context", "128", "--compute",
                                 "f32")["perplexity"] for model in (factored, pivoted)]
        self.assertAlmostEqual(perplexities[1] / perplexities[0], 1, delta=1e-4)
        plans = [m["plan"] for g in run_json("inspect", pivoted, "--explain", "--planning-profile")["groups"]
                 for m in g["matrices"]]
        self.assertEqual(plans.count("(x P) C"), 4)
        # bf16: the product changes by a few roundings; the text says so.
        text = run("convert", "--pivot", factored, self.path("pivoted_bf16")).stdout
        self.assertIn("4 linears pivoted", text)
        self.assertIn("greatest error relative to their factors 0.00", text)
        kept = run("convert", "--pivot", factored, self.path("kept"), "--max-pivot-error", "1e-9").stdout
        self.assertIn("is kept as it was: its pivots are ill-conditioned in bf16", kept)
        self.assert_error(run("convert", "--pivot", MODEL, self.path("x")), "--pivot", "factorize")
        self.assert_error(run("convert", factored, self.path("x"), "--max-pivot-error", "0.1"), "--pivot")
        run_json("convert", factored, self.path("usv4"), "--encode", "int4:g64")
        self.assert_error(run("convert", "--pivot", self.path("usv4"), self.path("x")), "int4:g64", "--encode")
        self.assertFalse(os.path.exists(self.path("x")))

    def test_the_fastest_plans_differ_by_batch_where_memory_allows(self):
        model = self.path("mpo")
        run_json("synth", model, "--shape", "smollm2-135m", "--layers", "1", "--form", "mpo", "--bond", "32", "--sites", "2")
        home = dict(os.environ, RANKINE_HOME=self.path("home"))

        def explain(*flags):
            result = run("inspect", model, "--explain", "--json", *flags, env=home)
            self.assertEqual(result.returncode, 0, result.stderr)
            groups = json.loads(result.stdout)["groups"]
            plans = {len({tuple(bucket["plans"]) for bucket in group["buckets"]}) for group in groups}
            return plans, sum(group["resident_bytes"] for group in groups)
        # A machine that computes little beside what it reads, in place of this one.
        kept = json.loads(run("profile", "--json", env=home).stdout)["path"]
        with open(kept) as file:
            profile = json.load(file)
        profile.update({"read_bytes_per_second": 1e9, "step_seconds": 0, "store_seconds": 0}, **{
            name: 2e10 for name in profile if name.endswith("flops_per_second")})
        with open(kept, "w") as file:
            json.dump(profile, file)
        stable, bytes_stored = explain()
        self.assertEqual(stable, {1})
        self.assertEqual(explain("--plan", "fastest")[0], {1})
        budget = 2000000
        fastest, bytes_held = explain("--plan", "fastest", "--extra-weight-bytes", str(budget))
        self.assertIn(2, fastest)
        self.assertLess(bytes_stored, bytes_held)
        self.assertLessEqual(bytes_held, bytes_stored + budget)
        self.assertIn("x [C1 C2]", run("inspect", model, "--explain", "--plan", "fastest", "--extra-weight-bytes",
                                       str(budget), env=home).stdout)
        shutil.copy(os.path.join(MODEL, "tokenizer.json"), model)
        answer = run("eval", model, "--text", self.text, "--windows", "1", "--plan", "fastest", "--extra-weight-bytes",
                     str(budget), "--json", env=home)
        plain = run("eval", model, "--text", self.text, "--windows", "1", "--json")
        ratio = json.loads(answer.stdout)["perplexity"] / json.loads(plain.stdout)["perplexity"]
        self.assertAlmostEqual(ratio, 1, delta=0.02)
        self.assert_error(run("profile", "--plan", "fastest"), "--plan")
        self.assertNotEqual(run("inspect", model, "--plan", "quickest").returncode, 0)
        with open(kept, "w") as file:
            file.write("{}")
        self.assert_error(run("inspect", model, "--explain", "--plan", "fastest", env=home), "rankine profile")

    def test_plans_that_layers_share_are_measured_once(self):
        model = self.path("twins")
        run_json("synth", model, "--shape", "smollm2-135m", "--layers", "2", "--form", "svd", "--keep", "0.5")
        groups = run_json("inspect", model, "--explain", "--measure", "--planning-profile")["groups"]
        times = {}
        for group in groups:
            name = re.sub(r"layers\.\d+\.", "", group["name"])
            times.setdefault(name, set()).add(tuple(bucket["measured_microseconds"] for bucket in group["buckets"]))
        self.assertEqual(len(groups), 2 * (len(times) - 1) + 1)  # the head stands alone
        self.assertTrue(all(len(measured) == 1 and min(min(measured)) > 0 for measured in times.values()), times)
        self.assertNotIn("measured", run("inspect", model, "--explain", "--planning-profile").stdout)

    def test_convert_encodes_by_a_map(self):
        rules = self.path("rules")
        with open(rules, "w") as file:
            file.write("# first match wins\nlayers\\.0\\.mlp int8:g32\nlayers\\.1\\.mlp e8p\nmlp nf4\nno_such_linear int2\n")
        made = run_json("convert", GGUF, self.path("map"), "--encode-map", rules)
        self.assertEqual({core["encoding"] for core in made["encoded"]}, {"int8:g32", "e8p", "nf4:g64"})
        self.assertEqual(len(made["unmatched_linears"]), 4 * 30)
        self.assertEqual(made["unused_rules"], ["no_such_linear"])
        with open(rules, "w") as file:
            file.write("mlp nf4\nattn int7\n")
        self.assert_error(run("convert", GGUF, self.path("x"), "--encode-map", rules), "rules: line 2", "int7")
        self.assert_error(run("convert", GGUF, self.path("x"), "--encode-map", self.path("none")), "none")
        self.assert_error(run("convert", GGUF, self.path("x"), "--encode", "int4:g48"), "--encode", "g48")
        self.assert_error(run("convert", GGUF, self.path("x"), "--encode", "e8p:g64"), "--encode", "e8p")
        self.assertFalse(os.path.exists(self.path("x")))

    def test_chat_keeps_history(self):
        result = run("chat", MODEL, "--json", "--max-tokens", "8", input="My name is Ada.\nWhat is my name?\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        first, second = (json.loads(line) for line in result.stdout.splitlines())
        # The second prompt holds the first, its answer and the new question.
        self.assertGreater(second["prompt_tokens"], first["prompt_tokens"] + len(first["token_ids"]) + 5)


if __name__ == "__main__":
    unittest.main()
