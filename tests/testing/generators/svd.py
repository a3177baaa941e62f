"""Writes tests/data/compress/svd.json: truncated SVDs, plain and weighted, from NumPy in float64.

Run: python3 tests/testing/generators/svd.py (needs numpy). The weighted approximation is computed the textbook way,
SVD(W L) with the inverse of L (a pseudo-inverse where H is singular), not the way the program takes.
"""

import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "svd.json"


def weight(rng, m, n, condition):
    """A matrix whose singular values fall geometrically from 1 to 1 / condition."""
    k = min(m, n)
    u = np.linalg.qr(rng.standard_normal((m, k)))[0]
    v = np.linalg.qr(rng.standard_normal((n, k)))[0]
    return (u * condition ** -np.linspace(0, 1, k)) @ v.T


def case(rng, name, m, n, rank, condition, tokens):
    w = weight(rng, m, n, condition)
    x = rng.standard_normal((n, tokens)) * np.exp(rng.standard_normal((n, 1)))
    h = x @ x.T / tokens
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    # Any root of H serves: H = X X^T / T, so X / sqrt(T) itself is one, without squaring its condition.
    root = x / np.sqrt(tokens)
    uw, sw, _ = np.linalg.svd(w @ root, full_matrices=False)
    values, vectors = np.linalg.eigh(h)
    keep = values > values[-1] * 1e-12
    whiten = vectors[:, keep] * np.sqrt(values[keep])
    unwhiten = (vectors[:, keep] / np.sqrt(values[keep])).T
    a, b, ct = np.linalg.svd(w @ whiten, full_matrices=False)
    return {
        "name": name,
        "rank": rank,
        "singular_moments": tokens < n,
        "w": w.tolist(),
        "h": h.tolist(),
        "values": s.tolist(),
        "product": ((u[:, :rank] * s[:rank]) @ vt[:rank]).tolist(),
        "weighted_values": sw.tolist(),
        # Equal to the program's U U^T W where H is regular; where it is singular, only on the range of H.
        "weighted_product": ((a[:, :rank] * b[:rank]) @ ct[:rank] @ unwhiten).tolist(),
    }


def main():
    rng = np.random.default_rng(20240307)
    cases = [
        case(rng, "wide", 5, 9, 3, 10, 40),
        case(rng, "tall", 11, 6, 2, 10, 40),
        case(rng, "square", 8, 8, 5, 100, 50),
        case(rng, "ill_conditioned", 8, 12, 3, 1e7, 60),
        case(rng, "tall_ill_conditioned", 12, 8, 3, 1e7, 60),
        case(rng, "rank_one", 7, 5, 1, 5, 30),
        case(rng, "wide_singular", 6, 10, 3, 10, 5),
        case(rng, "tall_singular", 12, 9, 3, 10, 5),
        case(rng, "row", 1, 6, 1, 1, 20),
        case(rng, "column", 6, 1, 1, 1, 20),
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
