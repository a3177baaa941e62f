"""A table of all methods of `rankine factorize` at equal sizes: errors, perplexity on two texts, KL, speed.

Usage: python bench/quality/methods.py RANKINE MODEL --statistics STATS --calibration TEXT --fisher FILE
         --validation TEXT --text code=TEXT --text prose=TEXT --out FOLDER [--gguf FILE] [--windows N,N] [--minutes N]
         [--no-speed]

`rankine explore` makes and measures the points (docs/explore.md) and leaves its report in FOLDER, with the table beside
it as methods.md; the same command goes on where it was stopped. STATS is of `rankine calibrate`, FILE of tools/torch's
fisher, TEXTs of tools/scripts/corpus.sh and bench/quality/shakespeare.sh; --gguf, the model as shipped, is row 0.
`sensitivity` measures 420 losses on TEXT of --validation, once for its three budgets.
The models stay in FOLDER/models, 8 GB of SmolLM2. So --no-speed first, on a machine with other work, and then the same
without it on a quiet one, measures losses once and all speeds in the same minutes.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys

# The most telling first: a run that is stopped has those.
KEEPS = ("0.8", "0.6", "0.9")
# Bits for each weight, with the encoding that rounds to that size and the coarser ones that leave room for L R.
BITS = (("2.5", "int2:g32", ("int2:g64", "e8p")), ("3.5", "int3:g32", ("int3:g64",)),
        ("4.5", "int4:g32", ("int4:g64",)))


def points(calibration, fisher, validation, losses):
    """Lines of `rankine explore --points`: a name and flags of factorize. losses: the file of sensitivity's search."""
    policies = {"loss-greedy": "", "svd-llm-v2": "",
                "sensitivity": f" --validation {validation} --validation-windows 2 --validation-window 256 "
                               f"--search-shares 0.5,0.8 --search-file {losses}"}
    flags = {"svd-llm": "", "tucker": "", "mpo": "", "lord": "", "bolaco": "", "basel-ranking": "", "svd": "",
             "fwsvd": f"--fisher {fisher}", "asvd": "", "svd-llm-u": f"--calibration {calibration}"}
    for bits, _, bases in BITS:
        for method in ("qlr", "caldera"):
            for base in bases:
                if method == "qlr" and base == "e8p":
                    continue
                yield (f"{method} {base} {bits} --method {method} --bits {bits} --base-encode {base} "
                       "--factor-encode int4:g64")
    for keep in KEEPS:
        for method, more in flags.items():
            yield f"{method} {keep} --method {method} --keep {keep} {more}".rstrip()
        # The same budget, shared out among the linears by what it costs each.
        for policy, more in policies.items():
            yield f"svd-llm, {policy} {keep} --method svd-llm --keep {keep} --allocation {policy}{more}"


def explore(args, points_file, losses):
    command = [args.rankine, "explore", args.model, "--out", str(args.out), "--points", str(points_file),
               "--statistics", args.statistics, "--windows", args.windows, "--keep-models",
               "--encodings", ",".join(rounded for _, rounded, _ in BITS)]
    if losses.exists():  # of an earlier run: the report's heat map
        command += ["--sensitivity", str(losses)]
    if args.no_speed:
        command.append("--no-speed")
    for text in args.text:
        command += ["--text", text]
    if args.gguf:
        command += ["--baseline", f"as shipped={args.gguf}"]
    if args.minutes:
        command += ["--minutes", str(args.minutes)]
    return subprocess.run(command).returncode


def figure(row, name, digits, error=None):
    if not row.get(name):
        return ""
    text = f"{float(row[name]):.{digits}f}"
    return f"{text} +- {float(row[error]):.{digits}f}" if error and row.get(error) else text


def table(rows, texts):
    titles = ["", "linears, MB", "bits a weight", "relative error", "weighted error"]
    for text in texts:
        titles += [f"perplexity, {text}", "log perplexity above dense", "KL"]
    titles += ["decode, of dense", "made in, s"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [row["name"], f"{float(row['linear bytes']) / 1e6:.1f}", figure(row, "bits per weight", 2),
                 figure(row, "mean relative error", 3), figure(row, "mean weighted error", 3)]
        for text in texts:
            difference = f"{text} log perplexity difference"
            cells += [figure(row, f"{text} perplexity", 2),
                      figure(row, difference, 3, f"{difference} standard error"),
                      figure(row, f"{text} KL", 3, f"{text} KL standard error")]
        speed = figure(row, "decode ratio to dense", 2)
        if speed:
            speed += " [{:.2f}, {:.2f}]".format(*(float(row[f"decode ratio to dense {end}"]) for end in ("low", "high")))
        lines.append("| " + " | ".join(cells + [speed, figure(row, "make seconds", 0)]) + " |")
    return lines


def ordered(rows):
    """As shipped, dense, then sizes from the largest, the best on the first text first."""
    def key(row):
        kinds = {"baseline": 0, "dense": 1}
        return kinds.get(row["kind"], 2), -round(float(row["bits per weight"]), 1), float(row["first perplexity"])
    return sorted(rows, key=key)


def write_table(folder, texts, windows):
    """Of explore's report in `folder`; `windows` in words."""
    with open(folder / "points.csv", newline="") as file:
        rows = [dict(row, **{"first perplexity": row[f"{texts[0]} perplexity"]}) for row in csv.DictReader(file)]
    names = [line.split(" --method")[0] for line in (folder / "methods.points").read_text().splitlines()]
    missing = [name for name in names if name not in {row["name"] for row in rows}]
    with open(folder / "explore.json") as file:
        device = json.load(file)["device"]
    lines = ["# Methods at equal sizes", "",
             f"On {device}. Of `bench/quality/methods.py` (docs/explore.md): {windows} windows of 512 tokens of "
             f"{' and '.join(texts)}. Differences are paired by window, +- their standard errors; errors are means over the "
             "linears; decode speed, with its 95% interval, is that of plans by default.", "", *table(ordered(rows), texts)]
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    (folder / "methods.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rankine")
    parser.add_argument("model")
    parser.add_argument("--statistics", required=True)
    parser.add_argument("--calibration", required=True, help="the text of the statistics, for svd-llm-u")
    parser.add_argument("--fisher", required=True)
    parser.add_argument("--validation", required=True, help="neither that text nor one of --text")
    parser.add_argument("--text", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--gguf")
    parser.add_argument("--windows", default="64,32", help="of 512 tokens; for all texts, or for each")
    parser.add_argument("--no-speed", action="store_true", help="measure losses only")
    parser.add_argument("--minutes", type=float)
    args = parser.parse_args()
    if bad := [text for text in args.text if "=" not in text]:
        parser.error(f"--text {bad[0]}: write NAME=FILE")
    args.out.mkdir(parents=True, exist_ok=True)
    points_file = args.out / "methods.points"
    losses = args.out / "sensitivity.losses"
    lines = points(args.calibration, args.fisher, args.validation, losses)
    points_file.write_text("\n".join(lines) + "\n")
    code = explore(args, points_file, losses)
    if not (args.out / "points.csv").exists():
        sys.exit(code or 1)
    write_table(args.out, [text.split("=", 1)[0] for text in args.text], args.windows.replace(",", " and "))
    sys.exit(code)


if __name__ == "__main__":
    main()
