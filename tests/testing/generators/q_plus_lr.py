"""Writes tests/data/compress/q_plus_lr.json: what the parts of qlr and caldera should give, from NumPy in float64.

Run: python3 tests/testing/generators/q_plus_lr.py (needs numpy). Everything is computed as the papers write it: block
LDL by Schur complements (the program takes a reversed Cholesky factor), LDLQ column by column on a fixed grid (f16),
low rank by scaling, SVD and scaling back (the program inverts nothing), Hadamard matrices as Kronecker products.
"""

import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "q_plus_lr.json"


def block_ldl(h, width):
    """M of h = (M + I) D (M + I)^T, M strictly block upper triangular: eliminates the last block, then the one before."""
    n = len(h)
    m = np.zeros((n, n))
    for begin in reversed(range(0, n, width)):
        end = min(begin + width, n)
        schur = h[:end, :end] - h[:end, end:] @ np.linalg.inv(h[end:, end:]) @ h[end:, :end] if end < n else h
        m[:begin, begin:end] = schur[:begin, begin:end] @ np.linalg.inv(schur[begin:end, begin:end])
    return m


def ldlq(w, m):
    """In f16, whose grid needs no scales."""
    q = np.zeros_like(w)
    for k in range(w.shape[1]):
        q[:, k] = (w[:, k] + (w - q)[:, :k] @ m[:k, k]).astype(np.float16)
    return q


def root(h):
    values, vectors = np.linalg.eigh(h)
    return (vectors * np.sqrt(values)) @ vectors.T


def low_rank(e, scale, rank):
    """SVD_r(E S) S^-1."""
    u, s, vt = np.linalg.svd(e @ scale, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank] @ np.linalg.inv(scale)


def moments(rng, n, tokens):
    x = rng.standard_normal((n, n)) @ rng.standard_normal((n, tokens)) * np.exp(rng.standard_normal((n, 1)))
    return x, x @ x.T / tokens


def ldl_case(rng, n, width):
    _, h = moments(rng, n, 4 * n)
    w = rng.standard_normal((5, n))
    m = block_ldl(h, width)
    case = {"width": width, "h": h.tolist(), "w": w.tolist(), "m": m.tolist()}
    if width == 1:
        case["q"] = ldlq(w, m).tolist()
    return case


def low_rank_case(rng, m, n, rank):
    x, h = moments(rng, n, 3 * n)
    e = rng.standard_normal((m, n))
    absolute = np.abs(x).mean(axis=1)
    return {
        "rank": rank,
        "h": h.tolist(),
        "mean_absolute": absolute.tolist(),
        "e": e.tolist(),
        "exact": low_rank(e, root(h), rank).tolist(),
        "diagonal": low_rank(e, np.diag(np.sqrt(np.diag(h))), rank).tolist(),
        "l2qer": low_rank(e, np.diag(absolute), rank).tolist(),
        "identity": low_rank(e, np.eye(n), rank).tolist(),
    }


def hadamard_case(rng, powers, b):
    sylvester = np.eye(1)
    for _ in range(powers):
        sylvester = np.kron(np.array([[1, 1], [1, -1]]), sylvester)
    block = np.linalg.qr(rng.standard_normal((b, b)))[0] if b > 1 else np.eye(1)
    signs = rng.choice([-1.0, 1.0], size=2**powers * b)
    matrix = np.kron(sylvester, block) @ np.diag(signs) / np.sqrt(2.0**powers)
    return {"signs": signs.tolist(), "block": block.tolist(), "matrix": matrix.tolist()}


def main():
    rng = np.random.default_rng(20240529)
    cases = {
        "ldl": [ldl_case(rng, 7, 1), ldl_case(rng, 24, 1), ldl_case(rng, 24, 8), ldl_case(rng, 20, 8)],
        "low_rank": [low_rank_case(rng, 6, 9, 3), low_rank_case(rng, 11, 5, 2), low_rank_case(rng, 8, 8, 1)],
        "hadamard": [hadamard_case(rng, 3, 1), hadamard_case(rng, 2, 3), hadamard_case(rng, 0, 5)],
    }
    OUT.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
