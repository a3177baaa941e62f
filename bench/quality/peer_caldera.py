"""CALDERA's own caldera() (pilancilab/caldera, decomposition/alg.py, over QuIP#'s quantisers) on given weights and H, on the
CPU.

Only what its README and its notebook show is called; its licence is not stated and QuIP#'s is the GPL: nothing of them is in
here. A case: seed, block (of the uniform quantiser), and fields of its CalderaParams by name, those of its
QuIPArgs in quip_args. Two of its imports are CUDA extensions: quiptools_cuda, of inference, is left out;
fast_hadamard_transform is what its own documentation says it is, x times a Walsh-Hadamard matrix times a scale, computed by
PyTorch.
"""

import itertools
import os
import sys
import time

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
from caldera.decomposition.dataclasses import CalderaParams, QuIPArgs
from caldera.utils.quantization import QuantizerFactory
from lib.utils.matmul_had import matmul_hadU, matmul_hadUt


# Ways back from the rotated basis, that of the inputs first: each is orthogonal, and the weight itself tells which it is.
WAYS_BACK = list(itertools.product((matmul_hadU, matmul_hadUt), repeat=2))


def rotated_back(made, matrix, way):
    """A matrix of the rotated basis in that of the weights: rows and columns through the transforms, then the signs."""
    inputs_back, outputs_back = way
    return outputs_back((inputs_back(matrix) * made.SU).T.contiguous()).T * made.SV[:, None]


def way_back(made, weight):
    """The way that takes the rotated weight, which is kept, to the weight."""
    def error(way):
        return torch.linalg.norm(rotated_back(made, made.W, way) * made.global_scale - weight) / torch.linalg.norm(weight)
    best = min(WAYS_BACK, key=error)
    if error(best) > 1e-4:
        raise SystemExit(f"no way back from CALDERA's rotation was found: {error(best):.2e} of the weight is left")
    return best


def parameters(case):
    fields = {key: value for key, value in case.items() if key not in ("seed", "block", "quip_args")}
    quantisers = {key: QuantizerFactory(method="uniform", block_size=case["block"])
                  for key in ("quant_factory_Q", "quant_factory_LR")}
    return CalderaParams(quip_args=QuIPArgs(**case["quip_args"]), **fields, **quantisers)


@torch.no_grad()
def factor(case, weight, second):
    torch.manual_seed(case["seed"])
    weight = torch.from_numpy(weight)
    made = caldera(quant_params=parameters(case), W=weight.clone(), H=torch.from_numpy(second).float(), device="cpu",
                   use_tqdm=False)
    product = made.Q.double() + made.L.double() @ made.R.double()
    if case["hadamard_transform"]:
        product = rotated_back(made, product.float(), way_back(made, weight)).double()
    print(f"{case['Q_bits']} bits {tuple(weight.shape)}: {time.process_time():.0f} s of CPU so far", file=sys.stderr)
    return (product * made.global_scale).numpy(), made.L.shape[1]


peer_exchange.write(outputs, [{name: factor(case, x["weight"], x["second"]) for name, x in inputs.items()}
                              for case in settings["cases"]])
