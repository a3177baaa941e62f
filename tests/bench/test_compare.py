"""bench/e2e/compare.py without the peers: Rankine's turns in a comparison, the ratios, the tables and the chart."""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "e2e"))
import compare
import report
import suites
from models import Models
from statistics_of_pairs import median, paired_ratio

RANKINE = os.environ["RANKINE_BIN"]


class CompareTest(unittest.TestCase):
    def test_ratios_are_of_pairs(self):
        # Each pair has the ratio 2, however far the machine drifts.
        self.assertEqual(paired_ratio([2, 20, 200], [1, 10, 100]), [2, 2, 2])
        middle, low, high = paired_ratio([1.0, 1.1, 1.2, 1.3, 1.4], [1.0] * 5)
        self.assertEqual(middle, 1.2)
        self.assertTrue(1.0 <= low < middle < high <= 1.4)
        self.assertEqual(median([3, 1, 2]), 2)
        with self.assertRaises(ValueError):
            paired_ratio([1], [1, 2])

    def test_a_group_takes_turns_and_reports_what_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            models = Models(folder, RANKINE)
            prompt = compare.write_prompt(pathlib.Path(folder, "prompt"), 8)
            settings = {"threads": 1, "prompt_ids": prompt, "new_tokens": 2}
            group = suites.factored("tiny", lambda *flags: models.random_folder("smollm2-135m", 1, *flags), "bf16", [
                ("half", ["--form", "svd", "--keep", "0.5"]), ("bad", ["--form", "svd", "--rank", "100000"])])
            result = compare.summarise(compare.run_group(group, RANKINE, settings, 3))
            other = compare.run_group(group, RANKINE, {**settings, "isa": "sse9"}, 1)
        dense, half, bad = result["entries"]
        self.assertEqual(dense["decode_ratio"], [1, 1, 1])
        self.assertEqual(len(half["samples"]), 3)
        self.assertGreater(half["decode_tokens_per_second"], 0)
        self.assertGreater(half["bytes_ratio"], 1)
        self.assertIn("rank 100000", bad["error"])
        self.assertIn("sse9", other["entries"][0]["error"])

    def test_the_roofline_is_the_worse_of_bytes_and_operations(self):
        entry = {"compute": "bf16", "read_bandwidth_bytes_per_second": 1e9,
                 "groups": [{"count": 1, "weight_bytes": 3e9, "operations": 4e9},
                            {"count": 5, "weight_bytes": 0, "operations": 2e9}]}
        self.assertEqual(compare.roofline_seconds(entry, {"bf16": 2e9}), 3 + 5 * 1)
        self.assertEqual(compare.roofline_seconds(entry, {"bf16": 1e9}), 4 + 5 * 2)

    def test_a_run_that_is_cut_off_keeps_its_groups(self):
        def run_group(group, *_):
            if group.title == "second":
                raise KeyboardInterrupt
            return {"title": group.title, "baseline": "peer", "by_bytes": False,
                    "entries": [{"label": "peer", "engine": "llama.cpp", "error": "it broke"}]}
        groups = [suites.Group(title, [], "peer") for title in ("first", "second")]
        with tempfile.TemporaryDirectory() as folder, \
                unittest.mock.patch.object(compare, "run_group", run_group), \
                unittest.mock.patch.dict(suites.SUITES, {"smollm2": lambda *_: groups}):
            args = argparse.Namespace(only=None, isa=None, layers=8, threads=2, rounds=1, prompt_tokens=1, new_tokens=1,
                                      rankine="/nowhere/rankine", out=folder)
            with self.assertRaises(KeyboardInterrupt):
                compare.run_suite("smollm2", args, None, {})
            kept = json.loads(pathlib.Path(folder, "smollm2.json").read_text())
        self.assertEqual([group["title"] for group in kept["groups"]], ["first"])

    def test_tables_and_charts_show_every_entry(self):
        def sample(speed):
            return {"prefill_tokens_per_second": 10.0 * speed, "decode_tokens_per_second": speed,
                    "bandwidth_share": 0.5, "read_bandwidth_bytes_per_second": 1e9}
        results = {"suite": "smollm2", "layers": 8, "only": "T|U", "isa": "avx2", "threads": 2, "rounds": 2,
                   "prompt_tokens": 5, "new_tokens": 4,
                   "cpu": "a <cpu>", "roofline": None, "groups": [compare.summarise(
                       {"title": "T & U", "baseline": "peer", "by_bytes": True, "entries": [
                           {"label": "ours", "engine": "Rankine", "weight_bytes_per_token": 5e6,
                            "groups": [{"count": 1, "weight_bytes": 5e6, "operations": 1e6}], "compute": "bf16",
                            "samples": [sample(30.0), sample(60.0)]},
                           {"label": "peer", "engine": "llama.cpp", "weight_bytes_per_token": 1e7,
                            "groups": [{"count": 1, "weight_bytes": 1e7, "operations": 1e6}], "compute": "bf16",
                            "samples": [sample(10.0), sample(20.0)]},
                           {"label": "third", "engine": "PyTorch", "error": "it broke"}]}, {"bf16": 1.25e8})]}
        with tempfile.TemporaryDirectory() as folder:
            report.write(results, folder)
            report.rewrite(folder)  # what is there says the same
            text = pathlib.Path(folder, "smollm2.md").read_text()
            svg = xml.etree.ElementTree.parse(pathlib.Path(folder, "smollm2.svg"))
            self.assertEqual(json.loads(pathlib.Path(folder, "smollm2.json").read_text()), results)
        self.assertIn("| ours | 5.0 | 450.0 | 3.00 [3.00, 3.00] | 45.0 | 3.00 [3.00, 3.00] | 50% of 1.0 | 2.00 | 1.50 | 2.40 |", text)
        self.assertIn("it broke", text)
        self.assertIn("--gguf MODEL.gguf --only 'T|U' --isa avx2 --rounds 2", text)
        drawn = " ".join(element.text or "" for element in svg.iter())
        for word in ("T & U", "ours", "peer", "third", "45.0 (3.00 x)", "not run"):
            self.assertIn(word, drawn)


if __name__ == "__main__":
    unittest.main()
