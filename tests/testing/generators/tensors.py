"""Writes tests/data/compress/tensors.json: tensor decompositions from NumPy in float64.

Run: python3 tests/testing/generators/tensors.py (needs numpy). Matrix product operators are made by the textbook sweep
with np.linalg.svd, the weighted fit by least squares over the samples themselves, Tucker by HOSVD and HOOI with
np.linalg.svd of unfoldings and einsum; nothing is computed as the program does it.
"""

import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "tensors.json"


def to_sites(w, outs, ins):
    k = len(outs)
    order = [i for s in range(k) for i in (s, k + s)]
    return w.reshape(*outs, *ins).transpose(order).reshape([o * i for o, i in zip(outs, ins)])


def from_sites(t, outs, ins):
    k = len(outs)
    t = t.reshape([e for o, i in zip(outs, ins) for e in (o, i)])
    order = list(range(0, 2 * k, 2)) + list(range(1, 2 * k, 2))
    return t.transpose(order).reshape(int(np.prod(outs)), int(np.prod(ins)))


def contract(cores):
    t = cores[0]
    for core in cores[1:]:
        t = np.tensordot(t, core, axes=1)
    return t.reshape(t.shape[1:-1])


def sweep(t, bond):
    cores, dropped, left, rest = [], [], 1, t
    for d in t.shape[:-1]:
        u, s, v = np.linalg.svd(rest.reshape(left * d, -1), full_matrices=False)
        r = min(bond, len(s))
        cores.append(u[:, :r].reshape(left, d, r))
        dropped.append((s[r:] ** 2).sum())
        rest, left = s[:r, None] * v[:r], r
    cores.append(rest.reshape(left, t.shape[-1], 1))
    return cores, dropped


def fitted(w, x, cores, outs, ins):
    """The first core by least squares over the samples, one output block after another."""
    bond = cores[0].shape[2]
    basis = np.zeros((ins[0] * bond, w.shape[0] // outs[0], w.shape[1]))
    for a in range(ins[0]):
        for b in range(bond):
            first = np.zeros((1, ins[0], bond))
            first[0, a, b] = 1
            basis[a * bond + b] = from_sites(contract([first] + cores[1:]), [1] + outs[1:], ins)
    design = (basis @ x).reshape(len(basis), -1).T
    targets = (w @ x).reshape(outs[0], -1).T
    first = np.linalg.lstsq(design, targets, rcond=None)[0].T.reshape(1, outs[0] * ins[0], bond)
    return from_sites(contract([first] + cores[1:]), outs, ins)


def mpo_case(rng, name, outs, ins, bond):
    m, n = int(np.prod(outs)), int(np.prod(ins))
    w = rng.standard_normal((m, n))
    x = np.exp(rng.standard_normal((n, 1))) * rng.standard_normal((n, 3 * n))
    cores, dropped = sweep(to_sites(w, outs, ins), bond)
    return {
        "name": name,
        "shape": ",".join(f"{o}x{i}" for o, i in zip(outs, ins)),
        "bond": bond,
        "w": w.tolist(),
        "h": (x @ x.T / x.shape[1]).tolist(),
        "product": from_sites(contract(cores), outs, ins).tolist(),
        "dropped": dropped,
        "fitted": fitted(w, x, cores, outs, ins).tolist(),
    }


def unfold(t, mode):
    return np.moveaxis(t, mode, 0).reshape(t.shape[mode], -1)


def leading(t, mode, rank):
    return np.linalg.svd(unfold(t, mode), full_matrices=False)[0][:, :rank]


def project(t, factors, skip=None):
    for mode, u in enumerate(factors):
        if mode != skip:
            t = np.moveaxis(np.tensordot(u.T, np.moveaxis(t, mode, 0), axes=1), 0, mode)
    return t


def tucker(t, ranks, rounds):
    factors = [leading(t, mode, r) for mode, r in enumerate(ranks)]
    for _ in range(rounds):
        for mode, r in enumerate(ranks):
            factors[mode] = leading(project(t, factors, skip=mode), mode, r)
    core = project(t, factors)
    return project(core, [u.T for u in factors])


def tucker_case(rng, name, extents, ranks, noise):
    # A tensor of those ranks and noise, so that the iteration has one answer.
    factors = [np.linalg.qr(rng.standard_normal((e, r)))[0] for e, r in zip(extents, ranks)]
    t = project(10 * rng.standard_normal(ranks), [u.T for u in factors])
    t = t + noise * rng.standard_normal(extents)
    return {
        "name": name,
        "extents": extents,
        "ranks": ranks,
        "t": t.ravel().tolist(),
        "hosvd": tucker(t, ranks, 0).ravel().tolist(),
        "hooi": tucker(t, ranks, 500).ravel().tolist(),
    }


def main():
    rng = np.random.default_rng(20240114)
    out = {
        "mpo": [
            mpo_case(rng, "two", [4, 3], [2, 6], 5),
            mpo_case(rng, "square", [4, 4], [4, 4], 7),
            mpo_case(rng, "three", [2, 3, 2], [3, 2, 2], 4),
            mpo_case(rng, "four", [2, 2, 2, 2], [2, 2, 1, 3], 3),
            mpo_case(rng, "bond_one", [3, 4], [5, 2], 1),
            mpo_case(rng, "svd", [9, 1], [1, 7], 3),
        ],
        "tucker": [
            tucker_case(rng, "two_way", [7, 9], [3, 3], 0.3),
            tucker_case(rng, "three_way", [3, 5, 8], [2, 3, 4], 0.3),
            tucker_case(rng, "one", [4, 3, 5], [1, 1, 1], 0.2),
            tucker_case(rng, "four_way", [2, 3, 4, 3], [2, 2, 2, 2], 0.1),
        ],
    }
    OUT.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
