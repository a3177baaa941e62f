"""Fisher weights for `rankine factorize --method fwsvd` (Hsu et al., arXiv 2207.00112).

F_ij = E[g_ij^2] over the sequences of a text, g the gradient of the mean next-token loss of one sequence. The method
needs one number for each input feature j of a linear: f_j = sum_i F_ij.
"""

import torch
from torch import nn

from .errors import InputError
from .folder import Folder, check_new, write_file
from .loss import loss_and_backward
from .model import load
from .network import FactoredLinear
from .progress import Progress
from .text import read_windows


def layer_linears(model):
    """name -> nn.Linear of the numbered layers, which are what rankine factorize factors."""
    return {name: module for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name.startswith("model.layers.")}


class FeatureSquares:
    """Adds up sum_i g_ij^2 of each weight [out, in], one sequence at a time, and frees the gradient at once.

    A weight that takes part once in a sequence's loss has its whole gradient when autograd has accumulated it, so
    at most one layer's gradients are in memory.
    """

    def __init__(self, linears):
        self.sums = {name: torch.zeros(linear.in_features, dtype=torch.float64) for name, linear in linears.items()}
        for name, linear in linears.items():
            linear.weight.requires_grad_()
            linear.weight.register_post_accumulate_grad_hook(self._hook(name))

    def _hook(self, name):
        def add(weight):
            self.sums[name] += weight.grad.double().square().sum(0)
            weight.grad = None
        return add


def fisher(model_path, out, texts, windows, length):
    folder = Folder(model_path)
    check_new(out)
    model, _ = load(folder, trainable=lambda matrix, core: False)
    if any(isinstance(module, FactoredLinear) and module.matrix.terms[0][1:] for module in model.modules()):
        raise InputError(f"{model_path} has factored linears already; Fisher weights are of the dense model")
    _densify(model)
    sequences = read_windows(folder, texts, length, windows).tokens
    linears = layer_linears(model)
    squares = FeatureSquares(linears)
    progress = Progress("fisher")
    for k, tokens in enumerate(sequences):
        loss = loss_and_backward(model, tokens[None], 1 / (length - 1)) / (length - 1)
        if loss != loss or loss == float("inf"):
            raise InputError(f"{model_path}: the loss of window {k} is not finite")
        progress.show((k + 1) / len(sequences), f"window {k + 1} of {len(sequences)}, loss {loss:.3f}")
    progress.finish()
    result = {f"{name}.fisher": (total / len(sequences)).float() for name, total in squares.sums.items()}
    for name, values in result.items():
        if not torch.isfinite(values).all():
            raise InputError(f"{name}: the squared gradients do not fit in f32")
    write_file(out, result)
    print(f"{out}: {len(result)} linears, {len(sequences)} windows of {length} tokens")


def _densify(model):
    """Block-encoded dense linears as nn.Linear of the decoded weights, which are what gets factored."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, FactoredLinear):
            continue
        matrix = module.matrix
        if matrix.input_transforms or matrix.output_transforms:
            raise InputError(f"{name} has transforms, which rankine factorize does not take")
        linear = nn.Linear(matrix.in_features, matrix.out_features, bias=module.bias is not None)
        linear.requires_grad_(False)
        linear.weight.copy_(module.product().detach())
        if module.bias is not None:
            linear.bias.copy_(module.bias)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, linear)
