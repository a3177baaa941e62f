"""Writes tests/data/eval/probe.json: logistic regressions fitted by scikit-learn on a few random examples.

Usage: python probe_goldens.py tests/data/eval/probe.json
"""

import json
import sys

import numpy as np
from sklearn.linear_model import LogisticRegression


def main(out):
    rng = np.random.default_rng(0)
    goldens = []
    for classes, c in ((2, 1.0), (2, 30.0), (3, 1.0), (5, 10.0)):
        y = np.arange(60) % classes
        x = np.round(rng.standard_normal((60, 6)) + 0.7 * rng.standard_normal((classes, 6))[y], 2).astype(np.float32)
        fit = LogisticRegression(C=c, tol=1e-12, max_iter=100000, solver="lbfgs").fit(x.astype(np.float64), y)
        goldens.append({"classes": classes, "c": c, "x": [[round(float(v), 2) for v in row] for row in x],
                        "y": y.tolist(), "weights": fit.coef_.round(9).tolist(),
                        "intercepts": fit.intercept_.round(9).tolist(),
                        "predictions": fit.predict(x.astype(np.float64)).tolist()})
    json.dump(goldens, open(out, "w"))


if __name__ == "__main__":
    main(sys.argv[1])
