"""Rankine's factors against those of the authors' own code: the same weights, the same H, the same rank.

Usage: python authors.py RANKINE MODEL --statistics STATS [--svd-llm PATH] [--asvd PATH] [--caldera PATH]
         [--layers REGEX] [--keep 0.8 0.6] [--text TEXT... [--update-layer 2]] [--python PYTHON] --out FOLDER

RANKINE is the program, MODEL a dense float folder of a Llama, STATS what `rankine calibrate` made of it. PATH is a checkout
of the authors' repository:

REPOSITORIES
CALDERA's needs its submodule, `git clone ... caldera/quip-sharp`. Nothing of these is copied or built here: each runs in
a process of its own under PYTHON (default: this one), which has bench/quality/requirements.txt. For every selected linear
both products are compared with the weight by NumPy in float64. With --text, what is compared of SVD-LLM is its closed-form
update, in one layer behind others that svd-llm-u has factored; the text is run through these few layers alone. --out gets
authors.json and authors.md, where cases of earlier runs that were not run again stay; the exit code is 1 when a ratio of
the errors that a method minimises is above 1.02.
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np

import authors_report
import weighted_errors
from authors_cases import ALPHA, CASES, REPOSITORIES, svd_llm_update
from model_files import FileError, Weights, read_provenance, read_statistics
from truncated_model import write_truncated

LIMIT = 1.02
CHECKOUTS = ("svd-llm", "asvd", "caldera")
HERE = pathlib.Path(__file__).resolve().parent
DEFAULT_LAYERS = r"layers\.(2|15|28)\..*(q_proj|o_proj|gate_proj|down_proj)"
DEFAULT_CALDERA_LAYERS = r"layers\.(2|15|28)\..*k_proj"
# Products are read back in f32, the program measured them in f64.
REPORTED_TOLERANCE = 1e-4


class ComparisonError(Exception):
    """A side failed, or the two did not do the same; the message says which and why."""


def run(command, what):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise ComparisonError(f"{what} failed: {shlex.join(map(str, command))}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def check_commit(path, key):
    """The commit of a checkout, which must be the one that is stated."""
    repository = REPOSITORIES[key]
    found = run(["git", "-C", path, "rev-parse", "HEAD"], f"reading the commit of {path}").strip()
    if found != repository.commit:
        raise ComparisonError(f"{path} is at {found}, the comparison is with {repository.name} at {repository.commit}: "
                              f"git -C {path} checkout {repository.commit}")


class Inputs:
    """Weights and statistics of the layers that hold a selected linear, and what the authors' programs get of them."""

    def __init__(self, model, statistics_folder, pattern):
        self.config = json.loads(pathlib.Path(model, "config.json").read_text())
        weights = Weights(model)
        names = [name.removesuffix(".weight") for name in weights if re.search(r"\.layers\.\d+\..*_proj\.weight$", name)]
        self.selected = sorted((name for name in names if re.search(pattern, name)), key=self._order)
        if not self.selected:
            raise ComparisonError(f"--layers {pattern} selects no linear of {model}")
        layers = sorted({self._layer(name) for name in self.selected})
        self._names = sorted((name for name in names if self._layer(name) in layers), key=self._order)
        self._weights = {name: weights.read(name + ".weight") for name in self._names}
        self.statistics = read_statistics(statistics_folder, layers)
        self.prefix = {}  # as statistics, behind factored layers

    @staticmethod
    def _layer(name):
        return int(re.search(r"\.layers\.(\d+)\.", name).group(1))

    def _order(self, name):
        return self._layer(name), name

    def weight(self, name):
        return self._weights[name]

    def judged(self, name):
        """The moments that errors are weighted by."""
        return (self.prefix or self.statistics)[name]

    def write(self, path, whole_layers):
        arrays = {}
        for name in self._names if whole_layers else self.selected:
            moments = self.statistics[name]
            arrays[f"{name}|weight"] = self._weights[name]
            arrays[f"{name}|second"], arrays[f"{name}|mean_absolute"] = moments["second"], moments["mean_absolute"]
            if self.prefix:
                arrays[f"{name}|prefix_second"] = self.prefix[name]["second"]
        np.savez(path, **arrays)


def theirs(cases, inputs, checkout, python, scratch):
    """For each case {linear: (matrix, rank)} of the authors' code, which all of them are of."""
    given, made = pathlib.Path(scratch, "inputs.npz"), pathlib.Path(scratch, "outputs.npz")
    program = cases[0].program
    inputs.write(given, whole_layers=program == "peer_svd_llm.py")  # it factors a layer at a time
    settings = {"tokens": inputs.statistics[inputs.selected[0]]["tokens"], "config": inputs.config,
                "cases": [case.settings for case in cases]}
    run([python, HERE / program, checkout, given, made, json.dumps(settings)], f"the authors' code in {checkout}")
    with np.load(made) as arrays:
        return [{name: (arrays[f"{k}|{name}|matrix"], int(arrays[f"{k}|{name}|rank"])) for name in inputs.selected}
                for k in range(len(cases))]


def exactly(names):
    return "^(" + "|".join(map(re.escape, names)) + ")$"


def ours(case, inputs, rankine, model, flags, scratch):
    """{linear: (matrix, provenance)} of rankine factorize. flags: where statistics come from, and which linears."""
    factored, dense = pathlib.Path(scratch, "factored"), pathlib.Path(scratch, "dense")
    run([rankine, "factorize", model, factored, *case.flags, *flags], "rankine factorize")
    run([rankine, "export", factored, dense, "--densify", "--dtype", "f32"], "rankine export")
    provenance, weights = read_provenance(factored), Weights(dense)
    return {name: (weights.read(name + ".weight").astype(np.float64), provenance[name]) for name in inputs.selected}


def compare(case, inputs, peer, own):
    """The rows of a case. Ranks must be the same, and our figure the one that rankine factorize reported."""
    rows = []
    for name in inputs.selected:
        (matrix, rank), (own_matrix, provenance) = peer[name], own[name]
        if rank != provenance["rank"]:
            raise ComparisonError(f"{name}: the authors' code took rank {rank}, rankine {provenance['rank']}")
        moments, weight = inputs.judged(name), inputs.weight(name)
        both = [weighted_errors.figures(weight, m, moments["second"], moments["mean_absolute"], ALPHA)
                for m in (matrix, own_matrix)]
        reported = provenance["weighted_error"]
        found = weighted_errors.weighted_error(weight, own_matrix, inputs.statistics[name]["second"])
        if abs(found - reported) > REPORTED_TOLERANCE * reported:
            raise ComparisonError(f"{name}: rankine factorize reported a weighted error of {reported}, NumPy finds {found}")
        rows.append({"linear": name, "rank": rank, "authors": both[0], "ours": both[1]})
    return {"title": case.title, "judged_by": case.judged_by, "program": case.program, "settings": case.settings,
            "flags": list(case.flags), "note": case.note, "rows": rows}


def run_cases(cases, inputs, checkout, arguments):
    """Cases of one repository, whose program is started once: its imports may take longer than its work."""
    print(f"{cases[0].repository}: {len(cases)} cases, {len(inputs.selected)} linears", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        peers = theirs(cases, inputs, checkout, arguments.python, scratch)
    results = []
    for case, peer in zip(cases, peers):
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
            flags = ["--statistics", arguments.statistics, "--only", exactly(inputs.selected)]
            own = ours(case, inputs, arguments.rankine, arguments.model, flags, scratch)
        results.append(show(compare(case, inputs, peer, own)))
    return results


def show(result):
    print("\n".join([f"{result['title']}:", *authors_report.case_table(result), ""]), flush=True)
    return result


def run_update(case, checkout, arguments):
    """The closed-form update of one layer, H of the inputs behind the layers before it being that of rankine calibrate."""
    layer = arguments.update_layer
    print(f"{case.title}: layer {layer}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        scratch = pathlib.Path(scratch)
        model, before = scratch / "model", scratch / "before"
        write_truncated(arguments.model, model, layer + 1)
        text = ["--calibration", *arguments.text, "--calibration-windows", str(arguments.windows)]
        run([arguments.rankine, "factorize", model, before, *case.flags, *text, "--skip", rf"layers\.{layer}\."],
            "factorising the layers before")
        for source, out in ((model, "statistics"), (before, "prefix")):
            run([arguments.rankine, "calibrate", source, "--text", *arguments.text, "--windows", str(arguments.windows),
                 "--out", scratch / out], "rankine calibrate")
        inputs = Inputs(model, scratch / "statistics", rf"layers\.{layer}\.")
        inputs.prefix = read_statistics(scratch / "prefix", [layer])
        [peer] = theirs([case], inputs, checkout, arguments.python, scratch)
        return show(compare(case, inputs, peer, ours(case, inputs, arguments.rankine, model, text, scratch)))


def repository_help():
    return "".join(f"  {r.name}: {r.url} at {r.commit} ({r.licence})\n" for r in REPOSITORIES.values())


def parse(words):
    text = __doc__.replace("REPOSITORIES\n", repository_help() + "\n")
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rankine")
    parser.add_argument("model")
    parser.add_argument("--statistics", required=True)
    for key in CHECKOUTS:
        parser.add_argument(f"--{key}", metavar="PATH")
    parser.add_argument("--caldera-tuned", action="store_true",
                        help="of --caldera, only E8P with the tuning passes that are QuIP#'s default: slow")
    parser.add_argument("--layers", default=DEFAULT_LAYERS, help="regular expression, searched in linears' names")
    parser.add_argument("--caldera-layers", metavar="REGEX", default=DEFAULT_CALDERA_LAYERS,
                        help="the same for --caldera, whose code takes minutes for a small matrix")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.8, 0.6])
    parser.add_argument("--text", nargs="+", help="compare SVD-LLM's closed-form update, on these files")
    parser.add_argument("--windows", type=int, default=64, help="of 512 tokens of --text (default 64)")
    parser.add_argument("--update-layer", type=int, default=2, help="that is updated, behind factored ones (default 2)")
    parser.add_argument("--python", default=sys.executable, help="that runs the authors' code")
    parser.add_argument("--scratch", help="folder for intermediate files (several times the model's size)")
    parser.add_argument("--out", required=True)
    return parser.parse_args(words)


def command_line(arguments):
    """What the report says it was made by: paths of this machine left out."""
    words = ["python bench/quality/authors.py build/release/rankine MODEL --statistics STATS"]
    words += [f"--{key} {REPOSITORIES[key].name}" for key in CHECKOUTS if checkout_of(arguments, key)]
    words += ["--caldera-tuned"] if arguments.caldera_tuned else []
    for option, default in (("layers", DEFAULT_LAYERS), ("caldera_layers", DEFAULT_CALDERA_LAYERS)):
        if (pattern := getattr(arguments, option)) != default:
            words += [f"--{option.replace('_', '-')} '{pattern}'"]
    words += [f"--text TEXT --windows {arguments.windows} --update-layer {arguments.update_layer}"] if arguments.text else []
    words += ["--keep " + " ".join(map(str, arguments.keep))] if arguments.svd_llm or arguments.asvd else []
    return " ".join(words + ["--out FOLDER"])


def checkout_of(arguments, key):
    return getattr(arguments, key.replace("-", "_"))


def compare_all(arguments):
    chosen = [key for key in CHECKOUTS if checkout_of(arguments, key)]
    if not chosen:
        raise ComparisonError("name a checkout: --" + ", --".join(CHECKOUTS))
    for key in chosen:
        check_commit(checkout_of(arguments, key), key)
    if arguments.caldera:
        check_commit(pathlib.Path(arguments.caldera, "quip-sharp"), "quip-sharp")
        chosen.append("quip-sharp")
    cases = []
    for key in (key for key in CHECKOUTS if key in chosen):
        if key == "svd-llm" and arguments.text:
            cases += [run_update(svd_llm_update(keep), arguments.svd_llm, arguments) for keep in arguments.keep]
            continue
        pattern = arguments.caldera_layers if key == "caldera" else arguments.layers
        inputs = Inputs(arguments.model, arguments.statistics, pattern)
        made = CASES["caldera-tuned" if key == "caldera" and arguments.caldera_tuned else key](arguments.keep)
        cases += run_cases(made, inputs, checkout_of(arguments, key), arguments)
    return {"model": pathlib.Path(arguments.model).resolve().name, "limit": LIMIT,
            "repositories": [vars(REPOSITORIES[key]) for key in chosen],
            "cases": [{**case, "command": command_line(arguments)} for case in cases]}


def main(words):
    arguments = parse(words)
    try:
        results = compare_all(arguments)
        authors_report.write(results, arguments.out)
    except (ComparisonError, FileError, ValueError) as error:
        sys.exit(f"authors.py: {error}")
    print("\n".join(authors_report.summary_table(results)))
    for title, linear, value in authors_report.worse(results):
        print(f"{title}: {linear} is {value:.4f} of the authors' error", file=sys.stderr)
    return 1 if authors_report.worse(results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
