"""`rankine explore` on the demo model, and its report in a real browser: no script errors, nothing from outside, a mark for
each point, no empty chart, no text that is cut off or runs out of its box, on a desktop and on a phone, in light and dark."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../testing"))
from browser import Browser  # noqa: E402

RANKINE = os.environ["RANKINE_BIN"]
MODEL = os.environ["RANKINE_TEST_MODEL_DIR"]
GGUF = os.environ["RANKINE_TEST_GGUF"]
SECONDS = 3000 if os.environ.get("RANKINE_SANITIZE") else 800
HARD_NAME = 'odd <b>&"name"'

# Boxes of everything visible that leaves its chart, and of HTML text that leaves its element or the window.
OVERFLOWS = """(() => {
  const bad = [];
  for (const svg of document.querySelectorAll("section.chart svg")) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        bad.push(text.textContent + " leaves its chart");
    }
  }
  for (const element of document.querySelectorAll("h1, h2, h3, p, .tile, .tile b, .tile span, li, summary, td.words"))
    if (element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1) bad.push(element.textContent.slice(0, 60));
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) bad.push("the page is wider than the window");
  return bad;
})()"""
# Names of points that cover each other.
COLLISIONS = """(() => {
  const bad = [];
  for (const svg of document.querySelectorAll("section.size svg, section.speed svg")) {
    const boxes = Array.from(svg.querySelectorAll("text")).map(t => [t.textContent, t.getBoundingClientRect()]);
    boxes.filter(b => b[1].width > 0).forEach((a, i, all) => all.slice(i + 1).forEach(b => {
      const [p, q] = [a[1], b[1]];
      if (p.left + 1 < q.right && q.left + 1 < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom) bad.push([a[0], b[0]]);
    }));
  }
  return bad;
})()"""
EMPTY_CHARTS = """Array.from(document.querySelectorAll("section.chart")).filter(section => {
  const drawn = Array.from(section.querySelectorAll("svg")).filter(s => s.getBoundingClientRect().width > 20);
  return drawn.length === 0 || !drawn.every(s => s.querySelector(".mark, .series, .cell") && s.querySelector("text"));
}).map(section => section.className)"""
VISIBLE_MARKS = """Array.from(document.querySelectorAll("section.chart")).map(section => [section.className,
  Array.from(section.querySelectorAll(".mark")).filter(m => m.getBoundingClientRect().width > 4).length])"""


def run(*arguments):
    return subprocess.run([RANKINE, "explore", *arguments], capture_output=True, text=True, timeout=SECONDS)


class ExploreTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="rankine-explore-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        with open(unittest.__file__.replace("__init__", "case")) as source:
            text = source.read()
        for name, part in (("calibration", text[:16000]), ("near", text[20000:26000]), ("far", text[30000:36000])):
            with open(cls.path(name), "w") as file:
                file.write(part)
        with open(cls.path("points"), "w") as file:
            file.write(f"# by hand\n{HARD_NAME} --method svd-llm --rank 64 --only 'layers\\.[01]\\.'\n")
        cls.arguments = ("--windows", "4,3", MODEL, "--out", cls.path("out"), "--text", "code=" + cls.path("near"), "--text", cls.path("far"),
                         "--context", "64", "--calibration", cls.path("calibration"),
                         "--calibration-windows", "4", "--window", "256", "--methods", "svd", "--keep", "0.2",
                         "--only-sets", r"first=layers\.[01]\.",
                         "--encodings", "int4:g64", "--points", cls.path("points"), "--baseline", "as shipped=" + GGUF,
                         "--prompt-tokens", "16", "--new-tokens", "4", "--repeat", "2", "--json")
        first = run(*cls.arguments)
        assert first.returncode == 0, first.stderr
        cls.first = json.loads(first.stdout)
        with open(os.path.join(cls.path("out"), "explore.json")) as file:
            cls.json = json.load(file)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    def test_measures_each_point_once(self):
        self.assertEqual([p["name"] for p in self.json["points"]],
                         ["as shipped", "dense", "int4:g64", HARD_NAME, "svd first 0.2"])
        self.assertEqual(self.first["measured"], 5)
        second = run(*self.arguments)
        self.assertEqual(second.returncode, 0, second.stderr)
        second = json.loads(second.stdout)
        self.assertEqual((second["measured"], second["reused"]), (0, 5))

    def test_figures_are_sane(self):
        points = {p["name"]: p for p in self.json["points"]}
        # The folder was made from the file as it was shipped: the same weights, in 5 bits with offsets by 32.
        self.assertAlmostEqual(points["as shipped"]["mean_relative_error"], 0, delta=0.005)
        self.assertAlmostEqual(points["as shipped"]["bits_per_weight"], 5, delta=0.01)
        self.assertAlmostEqual(points["dense"]["bits_per_weight"], 16, delta=0.01)
        self.assertAlmostEqual(points["int4:g64"]["bits_per_weight"], 4.25, delta=0.01)
        self.assertLess(points["dense"]["linear_bytes"], points["dense"]["bytes"])
        for p in points.values():
            self.assertEqual([t["text"] for t in p["texts"]], ["code", "far"])
            self.assertEqual([t["windows"] for t in p["texts"]], [4, 3])
            self.assertGreater(p["speed"]["decode_ratio"]["median"], 0)
        self.assertGreater(points["svd first 0.2"]["texts"][0]["log_perplexity_difference"]["value"], 1)

    def test_csv_agrees(self):
        with open(os.path.join(self.path("out"), "points.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([r["name"] for r in rows], [p["name"] for p in self.json["points"]])
        for row, point in zip(rows, self.json["points"]):
            self.assertEqual(int(row["linear bytes"]), point["linear_bytes"])
            self.assertAlmostEqual(float(row["code perplexity"]) / point["texts"][0]["perplexity"]["value"], 1, places=7)

    def test_a_point_can_be_repeated_by_its_recipe(self):
        recipe = next(p for p in self.json["points"] if p["name"] == HARD_NAME)["recipe"]
        result = subprocess.run(f"'{RANKINE}' factorize '{MODEL}' '{self.path('again')}' {recipe} --statistics "
                                f"'{self.path('out')}/statistics' --json", shell=True, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(json.loads(result.stdout)["layers"]), 14)

    def test_bad_flags(self):
        base = (MODEL, "--out", self.path("bad"), "--text", self.path("near"))
        for arguments, message in (
                (("--methods", "svd"), "--keep"),
                (("--methods", "sdv", "--keep", "0.9"), "sdv"),
                (("--methods", "svd-llm", "--keep", "0.9"), "--calibration"),
                (("--methods", "svd", "--keep", "2"), "outside"),
                (("--methods", "svd", "--keep", "0.9", "--allocations", "fair"), "fair"),
                (("--methods", "svd", "--keep", "0.9", "--only-sets", "mlp"), "NAME=REGEX"),
                (("--methods", "svd", "--keep", "0.9", "--factor-encode", "int9"), "int9"),
                (("--encodings", "int9"), "int9"),
                (("--points", self.path("near")), "a name and then flags"),
                (("--baseline", self.path("gone.gguf")), "gone.gguf"),
                (("--text", self.path("near"),), "two texts"),
                (("--windows", "4,3"), "--windows has 2 numbers for 1 texts"),
                (("--windows", "-1"), "--windows"),
                (("--statistics", self.path("gone")), "gone"),
                (("--minutes", "-1"), "--minutes")):
            with self.subTest(arguments=arguments):
                result = run(*base, *arguments)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(message, result.stderr)
                self.assertEqual(result.stderr.count("error: "), 1)

    def test_html_is_xml(self):
        xml.dom.minidom.parse(os.path.join(self.path("out"), "explore.html"))

    def test_in_a_browser(self):
        browser = Browser()
        self.addCleanup(browser.close)
        url = "file://" + os.path.join(self.path("out"), "explore.html")
        for width, height, dark in ((1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)):
            with self.subTest(width=width, dark=dark):
                browser.open(url, width, height, dark)
                self.assertEqual(browser.requests(), [url])
                self.assertEqual(browser.evaluate("window.innerWidth"), width)
                self.assertEqual(browser.evaluate(OVERFLOWS), [])
                self.assertEqual(browser.evaluate(COLLISIONS), [])
                self.assertEqual(browser.evaluate(EMPTY_CHARTS), [])
                marks = dict(browser.evaluate(VISIBLE_MARKS))
                self.assertEqual(marks["chart size"], 5)
                self.assertEqual(marks["chart speed"], 5)
                self.assertEqual(len(browser.evaluate(VISIBLE_MARKS)), 6)
                shades = browser.evaluate("[getComputedStyle(document.body).backgroundColor, "
                                          "getComputedStyle(document.querySelector('h1')).color]")
                self.assertEqual(sum(map(int, shades[0][4:-1].split(","))) < 200, dark, shades)
                self.assertEqual(sum(map(int, shades[1][4:-1].split(","))) > 600, dark, shades)
        self.assertEqual(browser.errors, [])
        self.sorts(browser)

    def sorts(self, browser):
        column = ("Array.from(document.querySelectorAll('table.sortable tbody tr')).map(r => "
                  "Number(r.children[1].dataset.value))")
        click = "document.querySelectorAll('table.sortable th button')[1].click()"
        browser.evaluate(click)
        rising = browser.evaluate(column)
        self.assertEqual(rising, sorted(rising))
        browser.evaluate(click)
        self.assertEqual(browser.evaluate(column), rising[::-1])
        self.assertEqual(len(rising), 5)
        self.assertEqual(browser.errors, [])


if __name__ == "__main__":
    unittest.main()
