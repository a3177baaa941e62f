"""Rankine, dense and factored, against llama.cpp and PyTorch: whole models, the same prompt, one run, turn by turn.

Usage: python compare.py RANKINE [--suite smollm2|llama-2-7b ...] [--gguf SmolLM2.gguf] [--layers 8] [--out FOLDER] ...
       python compare.py RANKINE --file MODEL.gguf [--make BF16]   (Rankine and llama.cpp on one file; --make has it
                                                                   rewritten by llama.cpp first)
       python compare.py RANKINE --report docs/benchmarks    (draws tables and charts of results that are there)

RANKINE is the program; its neighbour rankine_roofline, where built, gives the machine's peaks. --suite smollm2 needs
--gguf, the file that `bash tools/scripts/fetch_model.sh` prints; llama-2-7b has random weights. Each group of engines
is loaded together and takes turns, --rounds times; figures are medians, ratios are medians of paired ratios with their
95% interval. A failing engine is reported by its own words and does not stop the others; the exit code tells. With
--out the results (JSON), a table (Markdown) and a chart (SVG) are written there for each suite, after each of its
groups. Needs bench/e2e/requirements.txt.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import report
import suites
from engines import Engine, EngineError
from models import FTYPES, Models
from statistics_of_pairs import median, paired_ratio

# Ordinary tokens of every vocabulary here.
FIRST_ID, LAST_ID = 300, 30000


def write_prompt(path, tokens):
    ids = random.Random(1)
    path.write_text(" ".join(str(ids.randrange(FIRST_ID, LAST_ID)) for _ in range(tokens)) + "\n")
    return str(path)


def start(entry, rankine, settings):
    return Engine(entry.kind, rankine, entry.model(), settings, entry.flags)


def run_group(group, rankine, settings, rounds):
    """A dictionary of the group: what each entry is and the samples it gave, or why it gave none."""
    engines, failed = {}, {}
    print(f"{group.title}: loading", file=sys.stderr)
    for entry in group.entries:
        try:
            engines[entry.label] = start(entry, rankine, settings)
        except (EngineError, RuntimeError) as error:
            failed[entry.label] = str(error)
    samples = {label: [] for label in engines}
    try:
        for turn in range(rounds):
            print(f"{group.title}: round {turn + 1} of {rounds}", file=sys.stderr)
            for label, engine in engines.items():
                if label not in failed:
                    try:
                        samples[label].append(engine.sample())
                    except EngineError as error:
                        failed[label] = str(error)
    finally:
        for engine in engines.values():
            engine.close()
    return {"title": group.title, "baseline": group.baseline, "by_bytes": group.by_bytes,
            "entries": [describe(entry, engines, samples, failed) for entry in group.entries]}


def describe(entry, engines, samples, failed):
    result = {"label": entry.label, "engine": entry.kind, "flags": entry.flags}
    if entry.label in failed:
        return {**result, "error": failed[entry.label]}
    made = engines[entry.label].report
    keys = ("weight_bytes_per_token", "operations_per_token", "groups", "kv_bytes_per_token", "resident_bytes", "compute",
            "kv_dtype")
    return {**result, **{key: made[key] for key in keys if key in made}, "samples": samples[entry.label]}


def roofline_seconds(entry, peaks):
    """The least time of a token: of each group of linears the worse of its bytes over the bandwidth and its operations
    over the peak. One follows the other, so that what bounds lm_head can't overlap with what bounds a layer."""
    bandwidth, peak = entry["read_bandwidth_bytes_per_second"], peaks[entry["compute"]]
    return sum(group["count"] * max(group["weight_bytes"] / bandwidth, group["operations"] / peak)
               for group in entry["groups"])


def summarise(group, peaks=None):
    """Adds medians, and ratios to the baseline of the same round, to each entry that has samples. `peaks`: operations
    per second by the type of the activations."""
    by_label = {entry["label"]: entry for entry in group["entries"]}
    base = by_label[group["baseline"]]
    for entry in group["entries"]:
        if "error" in entry:
            continue
        for key in entry["samples"][0]:
            entry[key] = median([sample[key] for sample in entry["samples"]])
        for what in ("prefill", "decode"):
            key = f"{what}_tokens_per_second"
            if "error" not in base:
                entry[f"{what}_ratio"] = paired_ratio([s[key] for s in entry["samples"]],
                                                      [s[key] for s in base["samples"]])
        if "weight_bytes_per_token" in entry and "weight_bytes_per_token" in base:
            entry["bytes_ratio"] = base["weight_bytes_per_token"] / entry["weight_bytes_per_token"]
    for entry in group["entries"]:
        if peaks and group["by_bytes"] and "error" not in entry and "error" not in base:
            entry["roofline_ratio"] = roofline_seconds(base, peaks) / roofline_seconds(entry, peaks)
    return group


def roofline(rankine, threads):
    program = pathlib.Path(rankine).resolve().with_name("rankine_roofline")
    if not program.exists():
        return None
    command = [str(program), "--threads", str(threads), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def selected(groups, pattern):
    return [group for group in groups if pattern is None or re.search(pattern, group.title)]


def run_suite(name, args, models, settings):
    groups = selected(list(suites.SUITES[name](models, args.layers)), args.only)
    if not groups:
        return None
    peaks = roofline(args.rankine, args.threads)
    by_type = peaks["rows"][-1]["operations_per_second"] if peaks else None
    results = {"suite": name, "layers": args.layers, "only": args.only, "isa": args.isa, "threads": args.threads,
               "rounds": args.rounds, "prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens,
               "cpu": report.cpu_name(), "roofline": peaks, "groups": []}
    for group in groups:
        results["groups"].append(summarise(run_group(group, args.rankine, settings, args.rounds), by_type))
        if args.out:
            report.write(results, args.out)  # a run that is cut off keeps the groups that it has
    print(report.markdown(results))
    return results


def run_file(args, models, settings):
    path = models.requantised(args.make) if args.make else args.file
    group = suites.same_file(os.path.basename(path), lambda: path)
    results = {"suite": None, "threads": args.threads, "rounds": args.rounds, "prompt_tokens": args.prompt_tokens,
               "new_tokens": args.new_tokens, "cpu": report.cpu_name(), "roofline": None,
               "groups": [summarise(run_group(group, args.rankine, settings, args.rounds))]}
    print(json.dumps(results) if args.json else report.markdown(results))
    return results


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rankine")
    parser.add_argument("--suite", nargs="+", choices=suites.SUITES, default=[])
    parser.add_argument("--file", help="one GGUF file instead of a suite")
    parser.add_argument("--make", choices=FTYPES, help="rewrites --file in this type")
    parser.add_argument("--report", help="a folder of results: measures nothing")
    parser.add_argument("--gguf", help="the real model of the suite smollm2")
    parser.add_argument("--layers", type=int, default=8, help="of the suite llama-2-7b")
    parser.add_argument("--only", help="a regular expression of the groups to run")
    parser.add_argument("--isa", help="Rankine's instruction set, as of rankine bench: avx2 (default: the best)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--work", help="keeps the models here (default: a folder that is removed)")
    parser.add_argument("--out", help="writes results, tables and charts here")
    parser.add_argument("--json", action="store_true", help="of --file: prints the results as JSON")
    args = parser.parse_args()
    if min(args.layers, args.rounds, args.threads, args.prompt_tokens, args.new_tokens) < 1:
        parser.error("--layers, --rounds, --threads, --prompt-tokens and --new-tokens must be positive")
    if sum(map(bool, (args.suite, args.file, args.report))) != 1:
        parser.error("give one of --suite, --file and --report")
    if "smollm2" in args.suite and not args.gguf:
        parser.error("--suite smollm2 needs --gguf (bash tools/scripts/fetch_model.sh prints it)")
    return args


def main():
    args = parse()
    if args.report:
        report.rewrite(args.report)
        return
    with tempfile.TemporaryDirectory(prefix="rankine-compare-") as folder:
        prompt_ids = write_prompt(pathlib.Path(folder, "prompt"), args.prompt_tokens)
        settings = {"threads": args.threads, "prompt_ids": prompt_ids, "new_tokens": args.new_tokens,
                    "isa": args.isa}
        models = Models(args.work or folder, args.rankine, args.file or args.gguf)
        results = [run_suite(name, args, models, settings) for name in args.suite]
        if args.file:
            results.append(run_file(args, models, settings))
    errors = [f"{group['title']}, {entry['label']}: {entry['error']}" for result in results if result
              for group in result["groups"] for entry in group["entries"] if "error" in entry]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if not any(results):
        sys.exit("error: no group has a title that --only finds")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
