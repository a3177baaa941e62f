"""rankine_plan_bench on two small matrices, and the committed list of cells."""

import csv
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

BENCH = pathlib.Path(os.environ["RANKINE_BIN"]).with_name("rankine_plan_bench")
CELLS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "plan" / "cells.csv"
HEADER = "out,in,form,keep,rank,bond,sites,encode,factor_encode,tokens\n"


def run(cells, *flags):
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(cells)
        file.flush()
        return subprocess.run([BENCH, "--cells", file.name, "--rounds", "1", "--round-seconds", "0", *flags],
                              capture_output=True, text=True, timeout=600)


class PlanBenchTest(unittest.TestCase):
    def test_the_committed_cells_cover_the_issue(self):
        with open(CELLS) as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 200)
        self.assertEqual(len({tuple(row.values()) for row in rows}), 200)
        self.assertEqual({(row["out"], row["in"]) for row in rows},
                         {("576", "576"), ("1536", "576"), ("4096", "4096"), ("11008", "4096"), ("1024", "4096")})
        self.assertEqual({row["form"] for row in rows}, {"dense", "svd", "tucker", "mpo", "qlr"})

    def test_measures_choice_and_candidates(self):
        result = run(HEADER + "96,64,svd,,24,,,bf16,,1\n96,64,svd,,24,,,bf16,,5\n64,64,qlr,,16,,,int4:g64,bf16,2\n",
                     "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual([cell["tokens"] for cell in report["cells"]], [1, 5, 2])
        for cell in report["cells"]:
            self.assertGreaterEqual(cell["ratio_to_best"], 1)
            for candidate in cell["candidates"]:
                self.assertGreater(candidate["predicted_microseconds"], 0)
                self.assertGreater(candidate["measured_microseconds"], 0)
        self.assertEqual(report["cells"][0]["matrix"], "96 x 64, svd, rank 24, bf16")
        lines = run(HEADER + "96,64,dense,,,,,bf16,,3\n", "--csv").stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(list(csv.reader(lines))[1]), len(lines[0].split(",")))

    def test_errors_name_the_line(self):
        for cells, words in (("x\n", ("line 1",)), (HEADER, ("no cells",)),
                             (HEADER + "96,64,svd,,24,,,bf16,,1\n96,64,cp,,,,,bf16,,1\n", ("line 3", "cp")),
                             (HEADER + "96,64,svd,,,,,bf16,,1\n", ("line 2", "--rank")),
                             (HEADER + "96,64,dense,,,,,int9,,1\n", ("line 2", "int9")),
                             (HEADER + "96,64,svd,,100,,,bf16,,1\n", ("rank 100",))):
            result = run(cells)
            self.assertEqual(result.returncode, 1)
            self.assertTrue(result.stderr.startswith("error: "), result.stderr)
            for word in words:
                self.assertIn(word, result.stderr)


if __name__ == "__main__":
    unittest.main()
