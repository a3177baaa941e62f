"""Writes tests/data/compress/gaussian_process.json: regressions by scikit-learn's Gaussian process (Matern 5/2), and
the expected improvement by SciPy's normal distribution.

Run: python tests/testing/generators/gaussian_process_goldens.py (needs numpy, scipy, scikit-learn).
"""

import json
import pathlib

import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "compress" / "gaussian_process.json"


def golden(rng, points, dims, parameters):
    x = rng.random((points, dims))
    y = np.sin(4 * x).sum(axis=1) + 0.3 * x[:, 0] ** 2 + 0.02 * rng.standard_normal(points)
    queries = rng.random((6, dims))
    length, variance, noise = parameters
    kernel = ConstantKernel(variance) * Matern(length, nu=2.5)
    gp = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y - y.mean())
    mean, deviation = gp.predict(queries, return_std=True)
    mean += y.mean()
    best = float(y.min())
    gain = best - mean
    improvement = gain * norm.cdf(gain / deviation) + deviation * norm.pdf(gain / deviation)
    # The greatest likelihood within the bounds that the program has.
    free = ConstantKernel(1, (1e-6, 1e6)) * Matern(1, (0.05, 10), nu=2.5) + WhiteKernel(1e-3, (1e-10, 1e2))
    best_fit = GaussianProcessRegressor(free, alpha=0, optimizer="fmin_l_bfgs_b", n_restarts_optimizer=30,
                                        random_state=0).fit(x, y - y.mean())
    return {"length": length, "variance": variance, "noise": noise, "x": x.tolist(), "y": y.tolist(),
            "queries": queries.tolist(), "best": best, "mean": mean.tolist(), "deviation": deviation.tolist(),
            "improvement": improvement.tolist(),
            "log_likelihood": gp.log_marginal_likelihood_value_,
            # One observation has none: it is its own mean.
            "greatest_log_likelihood": best_fit.log_marginal_likelihood_value_ if points > 1 else None}


def main():
    rng = np.random.default_rng(0)
    goldens = [golden(rng, 12, 1, (0.3, 1.5, 1e-4)), golden(rng, 25, 3, (0.8, 2.0, 1e-3)),
               golden(rng, 30, 7, (2.0, 0.5, 1e-2)), golden(rng, 1, 2, (0.5, 1.0, 1e-6))]
    OUT.write_text(json.dumps(goldens))


if __name__ == "__main__":
    main()
