"""The figures that both sides are measured by, in float64, from dense matrices alone."""

import numpy as np


def relative_error(weight, other):
    """||W - W'||_F / ||W||_F of W, W' [m, n]."""
    weight = np.asarray(weight, np.float64)
    return float(np.linalg.norm(weight - other) / np.linalg.norm(weight))


def weighted_error(weight, other, second):
    """||(W - W') H^1/2||_F / ||W H^1/2||_F, H [n, n] symmetric. ||A H^1/2||_F^2 is the trace of A H A^T: no root is taken."""
    weight = np.asarray(weight, np.float64)
    difference = weight - other
    lost = float(np.sum((difference @ second) * difference))
    return float(np.sqrt(max(lost, 0.0) / np.sum((weight @ second) * weight)))


def scaled_error(weight, other, scale):
    """||(W - W') diag(s)||_F / ||W diag(s)||_F, s [n]: what ASVD minimises, s being (mean of |x|)^alpha."""
    return relative_error(np.asarray(weight, np.float64) * scale, other * scale)


def figures(weight, other, second, mean_absolute, alpha):
    """All of them; a matrix that is not finite is an error."""
    if other.shape != weight.shape:
        raise ValueError(f"a matrix of {other.shape} came back for one of {weight.shape}")
    if not np.all(np.isfinite(other)):
        raise ValueError("a matrix with NaN or infinity came back")
    return {"weighted_error": weighted_error(weight, other, second),
            "relative_error": relative_error(weight, other),
            "scaled_error": scaled_error(weight, other, mean_absolute ** alpha)}
