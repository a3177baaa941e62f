"""CALDERA's own caldera() (pilancilab/caldera, decomposition/alg.py, over QuIP#'s quantisers) on given weights and H, on the
CPU.

Only what its README and its notebook show is called; its licence is not stated and QuIP#'s is the GPL: nothing of them is in
here. A case: rank, seed, and fields of its CalderaParams by name. Two of its imports are CUDA extensions: quiptools_cuda,
of inference, is left out; fast_hadamard_transform is what its own documentation says it is, x times a Walsh-Hadamard
matrix times a scale, computed by PyTorch.
"""

import os
import sys

import peer_exchange

checkout, inputs, outputs, settings = peer_exchange.arguments()
sys.path[:0] = [os.path.join(checkout, "src"), os.path.join(checkout, "quip-sharp")]
peer_exchange.leave_out("datasets", "lm_eval", "quiptools_cuda", "fast_hadamard_transform")

import fast_hadamard_transform
import torch


def hadamard_transform(x, scale=1.0):
    """x [.., n] times the n x n Walsh-Hadamard matrix (Sylvester's order), n a power of two."""
    n, y = x.shape[-1], x.reshape(-1, x.shape[-1])
    half = 1
    while half < n:
        pairs = y.reshape(-1, n // (2 * half), 2, half)
        y = torch.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), 2)
        half *= 2
    return y.reshape(x.shape) * scale


fast_hadamard_transform.hadamard_transform = hadamard_transform

from caldera.decomposition.alg import caldera
from caldera.decomposition.dataclasses import CalderaParams
from caldera.utils.quantization import QuantizerFactory
from lib.utils.matmul_had import matmul_hadU, matmul_hadUt


def rotated_back(made, matrix):
    """A matrix of the rotated basis in that of the weights: rows and columns through the transforms, then the signs."""
    return matmul_hadU((matmul_hadU(matrix) * made.SU).T).T * made.SV[:, None] if made.SU is not None else matrix


def parameters(case):
    fields = {key: value for key, value in case.items() if key not in ("seed", "block")}
    quantisers = {key: QuantizerFactory(method="uniform", block_size=case.get("block", 64))
                  for key in ("quant_factory_Q", "quant_factory_LR")}
    return CalderaParams(**fields, **quantisers)


@torch.no_grad()
def factor(case, weight, second):
    torch.manual_seed(case["seed"])
    weight = torch.from_numpy(weight)
    made = caldera(quant_params=parameters(case), W=weight.clone(), H=torch.from_numpy(second).float(), device="cpu",
                   use_tqdm=False)
    scale = made.global_scale
    # What is known of the transforms is checked on the weight itself, which is kept in the rotated basis.
    error = torch.linalg.norm(rotated_back(made, made.W) * scale - weight) / torch.linalg.norm(weight)
    if error > 1e-4:
        raise SystemExit(f"the rotation of CALDERA was not undone: {error:.2e}")
    product = made.Q.double() + made.L.double() @ made.R.double()
    return (rotated_back(made, product.float()).double() * scale).numpy(), made.L.shape[1]


peer_exchange.write(outputs, [{name: factor(case, x["weight"], x["second"]) for name, x in inputs.items()}
                              for case in settings["cases"]])
