"""Writes tests/data/compress/stacks.json: Tucker forms of stacked attention projections, from NumPy in float64.

Run: python3 tests/testing/generators/stacks.py (needs numpy). q, k, v and o differ in heads, as under grouped-query
attention. HOSVD and HOOI are those of tensors.py on the stack; the weighted fits are np.linalg.lstsq over samples of the
inputs, one design column for each unknown.
"""

import json
import pathlib

import numpy as np

from tensors import tucker

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "stacks.json"
HEADS, DIM, FEATURES = {"q": 4, "k": 2, "v": 2, "o": 4}, 4, 12


def weights(rng):
    w = {name: rng.standard_normal((h * DIM, FEATURES)) * s for (name, h), s in zip(HEADS.items(), (2, 1, 0.5, 1.5))}
    w["o"] = w["o"].T.copy()
    return w


def stack(w):
    return np.concatenate([w["q"], w["k"], w["v"], w["o"].T]).reshape(-1, DIM, FEATURES)


def samples(rng, n):
    return np.exp(rng.standard_normal((n, 1))) * (rng.standard_normal((n, n)) @ rng.standard_normal((n, 3 * n)))


def responses(t, x, xo, shares):
    """What a stack gives on the samples, each linear scaled by the root of its share, as one vector."""
    rows, at, out = t.reshape(-1, FEATURES), 0, []
    for name, heads in HEADS.items():
        part = rows[at : at + heads * DIM]
        at += heads * DIM
        y = part.T @ xo / np.sqrt(xo.shape[1]) if name == "o" else part @ x / np.sqrt(x.shape[1])
        out.append(np.sqrt(shares[name]) * y.ravel())
    return np.concatenate(out)


def product(form):
    return np.einsum("ha,db,cf,abc->hdf", form["a"], form["b"], form["c"], form["g"])


def fit(form, key, target, x, xo, shares):
    columns = []
    for index in np.ndindex(form[key].shape):
        unit = np.zeros_like(form[key])
        unit[index] = 1
        columns.append(responses(product({**form, key: unit}), x, xo, shares))
    solution = np.linalg.lstsq(np.array(columns).T, responses(target, x, xo, shares), rcond=None)[0]
    return {**form, key: solution.reshape(form[key].shape)}


def fit_case(rng, name, ranks, rounds):
    w = weights(rng)
    t = stack(w)
    x, xo = samples(rng, FEATURES), samples(rng, HEADS["o"] * DIM)
    shares = {n: 1 / (np.linalg.norm(w[n] @ (xo if n == "o" else x)) ** 2 / (xo if n == "o" else x).shape[1]) for n in w}
    whole = [sum(HEADS.values()), DIM, FEATURES]
    factors = [np.eye(e) if e == r else rng.standard_normal((e, r)) for e, r in zip(whole, ranks)]
    start = {"a": factors[0], "b": factors[1], "c": factors[2].T, "g": rng.standard_normal(ranks)}
    form = start
    for _ in range(rounds):
        form = fit(form, "g", t, x, xo, shares)
        if ranks[2] < FEATURES:
            form = fit(form, "c", t, x, xo, shares)
    return {
        "name": name,
        "weights": {n: w[n].tolist() for n in w},
        "h": (x @ x.T / x.shape[1]).tolist(),
        "h_o": (xo @ xo.T / xo.shape[1]).tolist(),
        "shares": shares,
        "a": start["a"].tolist(),
        "b": start["b"].tolist(),
        "c": start["c"].tolist(),
        "ranks": ranks,
        "g": start["g"].ravel().tolist(),
        "rounds": rounds,
        "product": product(form).reshape(-1, FEATURES).tolist(),
        "error": float(np.sum(responses(t - product(form), x, xo, shares) ** 2)),
    }


def stack_case(rng, name, ranks):
    w = weights(rng)
    t = stack(w)
    return {
        "name": name,
        "weights": {n: w[n].tolist() for n in w},
        "ranks": ranks,
        "hosvd_loss": float(np.sum((t - tucker(t, ranks, 0)) ** 2)),
        "hooi_loss": float(np.sum((t - tucker(t, ranks, 300)) ** 2)),
    }


def main():
    rng = np.random.default_rng(20240506)
    out = {
        "stacks": [stack_case(rng, "all", [5, 3, 7]), stack_case(rng, "heads_in_full", [12, 3, 8])],
        "fits": [
            fit_case(rng, "core", [5, 3, 12], 1),
            fit_case(rng, "core_and_features", [5, 3, 6], 1),
            fit_case(rng, "three_rounds", [12, 4, 7], 3),
        ],
    }
    OUT.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
