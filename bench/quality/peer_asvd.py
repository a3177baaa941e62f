"""ASVD's own SVDLinear.from_linear (hahnyuan/ASVD4LLM, modules/svd_linear.py) on given weights and means of |x|.

A case: keep, alpha, seed (its SVD is a randomised one).
"""

import sys

import peer_exchange

checkout, inputs, outputs, settings = peer_exchange.arguments()
sys.path.insert(0, checkout)

import torch
from modules.svd_linear import SVDLinear


@torch.no_grad()
def factor(case, weight, mean_absolute):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.from_numpy(weight)
    # Its calibration leaves the sum of this over sequences: a constant factor, which changes nothing.
    linear.scaling_diag_matrix = torch.from_numpy(mean_absolute).float()
    made = SVDLinear.from_linear(linear, case["keep"], act_aware=True, alpha=case["alpha"])
    if not isinstance(made, SVDLinear):
        raise SystemExit("ASVD's SVD failed and it returned a dense linear")
    return (made.ALinear.weight.double() @ made.BLinear.weight.double()).numpy(), made.truncation_rank


def factor_all(case):
    torch.manual_seed(case["seed"])
    return {name: factor(case, x["weight"], x["mean_absolute"]) for name, x in inputs.items()}


peer_exchange.write(outputs, [factor_all(case) for case in settings["cases"]])
