"""Results of authors.py as Markdown."""

import json
import pathlib

FIGURES = {"weighted_error": "weighted by H", "relative_error": "plain", "scaled_error": "scaled by mean abs x"}


def ratio(row, figure):
    """Ours over the authors': below 1, ours is nearer to the weights."""
    return row["ours"][figure] / row["authors"][figure]


def shown_figures(case):
    """Those that the tables of a case show: always H's and the plain one, and the method's own."""
    return list(dict.fromkeys(["weighted_error", "relative_error", case["judged_by"]]))


def summary(case):
    """(smallest, middle, largest) of the ratios of the figure that the case is judged by."""
    ratios = sorted(ratio(row, case["judged_by"]) for row in case["rows"])
    return ratios[0], (ratios[(len(ratios) - 1) // 2] + ratios[len(ratios) // 2]) / 2, ratios[-1]


def worse(results):
    """[(case title, linear, ratio)] of all that are above the limit."""
    return [(case["title"], row["linear"], ratio(row, case["judged_by"])) for case in results["cases"]
            for row in case["rows"] if ratio(row, case["judged_by"]) > results["limit"]]


def short(linear):
    """layer and matrix of a linear's full name."""
    return linear.removeprefix("model.layers.").replace("self_attn.", "").replace("mlp.", "")


def table(titles, rows):
    return ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)] + \
           ["| " + " | ".join(row) + " |" for row in rows]


def case_table(case):
    titles, figures = ["layer, matrix", "rank"], shown_figures(case)
    for figure in figures:
        titles += [f"{FIGURES[figure]}: authors'", "ours", "ratio"]
    rows = []
    for row in case["rows"]:
        cells = [short(row["linear"]), str(row["rank"])]
        for figure in figures:
            cells += [f"{row['authors'][figure]:.5f}", f"{row['ours'][figure]:.5f}", f"{ratio(row, figure):.4f}"]
        rows.append(cells)
    return table(titles, rows)


def summary_table(results):
    rows = []
    for case in results["cases"]:
        low, middle, high = summary(case)
        over = sum(ratio(row, case["judged_by"]) > results["limit"] for row in case["rows"])
        rows.append([case["title"], FIGURES[case["judged_by"]], f"{low:.4f}", f"{middle:.4f}", f"{high:.4f}",
                     f"{over} of {len(case['rows'])}"])
    return table(["", "error", "least ratio", "median", "largest", f"above {results['limit']}"], rows)


def markdown(results):
    lines = ["# The authors' own code on the same matrices", "",
             "Each method's public code and `rankine factorize` on the same weights, the same H = X X^T / T and the same "
             "rank: the relative errors of the products, computed by NumPy in float64. A ratio is ours over the authors'; "
             "below 1, ours is nearer to the weights. The authors' code runs as a program of its own.", "",
             f"MODEL is {results['model']}. Made by", ""]
    lines += [f"    {command}" for command in dict.fromkeys(case["command"] for case in results["cases"])] + [""]
    lines += table(["repository", "commit", "licence"],
                   [[f"[{r['name']}]({r['url']})", r["commit"][:12], r["licence"]] for r in results["repositories"]])
    lines += ["", *summary_table(results)]
    for case in results["cases"]:
        lines += ["", f"## {case['title']}", "", f"Ours: `rankine factorize {' '.join(case['flags'])}`. Theirs: "
                  f"`bench/quality/{case['program']}`, " +
                  ", ".join(f"{key} {value}" for key, value in case["settings"].items()) + "."]
        lines += [case["note"]] if case["note"] else []
        lines += ["", *case_table(case)]
    return "\n".join(lines) + "\n"


def merged(old, new):
    """The cases and repositories of both, those of `new` in the place of others of the same name."""
    if old["model"] != new["model"]:
        raise ValueError(f"the report there is of the model {old['model']}, not of {new['model']}: name another --out")
    def join(key, name):
        return list({**{entry[name]: entry for entry in old[key]}, **{entry[name]: entry for entry in new[key]}}.values())
    return {**new, "repositories": join("repositories", "name"), "cases": join("cases", "title")}


def write(results, folder):
    """As authors.json and authors.md. ValueError: authors.json is there and of another model."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "authors.json"
    if path.exists():
        results = merged(json.loads(path.read_text()), results)
    path.write_text(json.dumps(results, indent=1) + "\n")
    (folder / "authors.md").write_text(markdown(results))
