"""Writes tests/data/compress/methods.json: what each factorisation method should give, from NumPy in float64.

Run: python3 tests/testing/generators/methods.py (needs numpy). Everything is computed as the papers write it (scale,
SVD, scale back; eigenvectors of the outputs' covariance; least squares over the samples), not as the program does.
"""

import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "methods.json"
ALPHA = 0.5


def truncated(a, rank):
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def scaled_svd(w, scale, rank):
    return truncated(w * scale, rank) / scale


def lord(w, b, x, rank, covariance):
    q = np.linalg.eigh(covariance)[1][:, ::-1][:, :rank]
    mean = (w @ x).mean(axis=1) + b
    return q @ (q.T @ w), b + (mean - b) - q @ (q.T @ (mean - b))


def basel_ranking(w, h, rank):
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    energy = s**2 * np.einsum("kj,ji,ki->k", vt, h, vt)
    kept = np.argsort(-energy)[:rank]
    return (u[:, kept] * s[kept]) @ vt[kept]


def updated(w, x, prefix, rank):
    """U fitted over the samples behind the prefix, V of svd-llm on the dense ones."""
    root = np.linalg.cholesky(x @ x.T)
    v = np.linalg.svd(w @ root, full_matrices=False)[2][:rank] @ np.linalg.inv(root)
    return np.linalg.lstsq((v @ prefix).T, (w @ prefix).T, rcond=None)[0].T @ v


def case(rng, name, m, n, rank, groups, with_bias):
    w = rng.standard_normal((m, n))
    sizes = [int(rng.integers(20, 40)) for _ in range(groups)]
    scale = np.exp(rng.standard_normal((n, 1)))
    parts = [scale * (rng.standard_normal((n, t)) + rng.standard_normal((n, 1))) for t in sizes]
    x = np.hstack(parts)
    b = rng.standard_normal(m) if with_bias else np.zeros(m)
    fisher = np.exp(rng.standard_normal(n))
    tokens = x.shape[1]
    h = x @ x.T / tokens
    group_means = np.array([p.mean(axis=1) for p in parts])
    prefix = x + 0.3 * scale * rng.standard_normal(x.shape)
    y = w @ x
    overall = np.cov(y, bias=True)
    pooled = sum(np.cov(w @ p, bias=True) * t for p, t in zip(parts, sizes)) / tokens
    lord_w, lord_b = lord(w, b, x, rank, overall)
    bolaco_w, bolaco_b = lord(w, b, x, rank, pooled)
    root = np.linalg.cholesky(h)
    return {
        "name": name,
        "rank": rank,
        "tokens": tokens,
        "w": w.tolist(),
        "bias": b.tolist() if with_bias else [],
        "h": h.tolist(),
        "mean": x.mean(axis=1).tolist(),
        "mean_absolute": np.abs(x).mean(axis=1).tolist(),
        "group_means": group_means.tolist(),
        "group_tokens": sizes,
        "fisher": fisher.tolist(),
        "prefix_h": (prefix @ prefix.T / tokens).tolist(),
        "cross": (x @ prefix.T / tokens).tolist(),
        "svd": truncated(w, rank).tolist(),
        "svd-llm": (truncated(w @ root, rank) @ np.linalg.inv(root)).tolist(),
        "asvd": scaled_svd(w, np.abs(x).mean(axis=1) ** ALPHA, rank).tolist(),
        "fwsvd": scaled_svd(w, np.sqrt(fisher), rank).tolist(),
        "lord": lord_w.tolist(),
        "lord_bias": lord_b.tolist(),
        "bolaco": bolaco_w.tolist(),
        "bolaco_bias": bolaco_b.tolist(),
        "basel-ranking": basel_ranking(w, h, rank).tolist(),
        "svd-llm-u": updated(w, x, prefix, rank).tolist(),
    }


def main():
    rng = np.random.default_rng(20240516)
    cases = [
        case(rng, "wide", 5, 9, 3, 3, False),
        case(rng, "tall", 11, 6, 2, 2, True),
        case(rng, "square", 8, 8, 5, 4, True),
        case(rng, "rank_one", 7, 5, 1, 1, False),
    ]
    OUT.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
