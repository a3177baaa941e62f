"""A linear layer whose weight is a sum of small tensor networks, as a torch module: the parameters are the cores.

The input is one more node of the network, [tokens, input legs]; nodes are contracted pairwise in the order that costs
least for that many tokens, so that few tokens go through the cores one after another and many may multiply the cores
out first. Both are the same sum.
"""

import functools
import math

import torch
from torch import nn

TOKENS = 0  # the leg of the input's rows; others are 1, 2, ...


@functools.lru_cache(maxsize=None)
def cheapest_order(nodes, extents, kept):
    """Pairs of positions to contract, for `nodes` (a tuple of tuples of legs); a result goes to the end of the list.

    Exhaustive, which at 7 nodes (MPO of 6 sites) is 57,000 orders and cached. Cost: multiplications, and each number
    written counts as 16, about what memory costs beside a multiplication of blocked kernels.
    """
    extent = dict(extents)

    def search(current):
        if len(current) == 1:
            return 0, ()
        best = None
        for i in range(len(current)):
            for j in range(i + 1, len(current)):
                rest = current[:i] + current[i + 1:j] + current[j + 1:]
                union = set(current[i]) | set(current[j])
                needed = set(kept).union(*rest)
                result = tuple(sorted(leg for leg in union if leg in needed))
                cost = math.prod(extent[leg] for leg in union) + 16 * math.prod(extent[leg] for leg in result)
                if best is not None and cost >= best[0]:
                    continue
                later, order = search(rest + (result,))
                if best is None or cost + later < best[0]:
                    best = (cost + later, ((i, j),) + order)
        return best

    return search(nodes)[1]


def contract(tensors, legs, kept):
    """The sum over all legs that are not in `kept`; result [kept legs in that order]. In bf16 under autocast."""
    if torch.is_autocast_enabled("cpu"):
        tensors = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors]
    extents = {leg: size for tensor, names in zip(tensors, legs) for leg, size in zip(names, tensor.shape)}
    nodes = list(zip(tensors, (tuple(names) for names in legs)))
    for i, j in cheapest_order(tuple(names for _, names in nodes), tuple(sorted(extents.items())), tuple(kept)):
        (a, a_legs), (b, b_legs) = nodes[i], nodes[j]
        rest = [node for k, node in enumerate(nodes) if k not in (i, j)]
        needed = set(kept).union(*(names for _, names in rest))
        shared = [leg for leg in a_legs if leg in b_legs]
        result = [leg for leg in dict.fromkeys(a_legs + b_legs) if leg in needed]
        if shared and not any(leg in needed for leg in shared):
            axes = [[names.index(leg) for leg in shared] for names in (a_legs, b_legs)]
            value = torch.tensordot(a, b, axes)
        else:
            value = torch.einsum(a, list(a_legs), b, list(b_legs), result)
        nodes = rest + [(value, tuple(result))]
    value, names = nodes[0]
    return value.permute([names.index(leg) for leg in kept])


def hadamard(x, signs, block, transposed):
    """y = (H_p kron B) (signs * x) / sqrt(2^p) over the last dimension, or its inverse (docs/factorization.md)."""
    b = 1 if block is None else block.shape[0]
    powers = x.shape[-1] // b
    y = x if transposed else x * signs
    if block is not None:
        y = y.unflatten(-1, (powers, b)) @ (block if transposed else block.T)
        y = y.flatten(-2)
    stride = b
    while stride < x.shape[-1]:
        y = y.unflatten(-1, (-1, 2, stride))
        y = torch.stack([y[..., 0, :] + y[..., 1, :], y[..., 0, :] - y[..., 1, :]], -2).flatten(-3)
        stride *= 2
    y = y / math.sqrt(powers)
    return y * signs if transposed else y


class Transform(nn.Module):
    def __init__(self, kind, tensor, block=None, transposed=False):
        super().__init__()
        self.kind, self.transposed = kind, transposed
        self.register_buffer("tensor", tensor.long() if kind == "permutation" else tensor.float(), persistent=False)
        self.register_buffer("block", None if block is None else block.float(), persistent=False)

    def forward(self, x):
        if self.kind == "permutation":
            return x.index_select(-1, self.tensor)
        return hadamard(x, self.tensor, self.block, self.transposed)


class FactoredLinear(nn.Module):
    """y = P(sum of terms applied to T(x)) + bias.

    matrix: manifest.Matrix. values: core key -> tensor of the stored shape, f32; those that are nn.Parameter are shared
    with whoever else holds them, the others are constants (block-encoded cores).
    """

    def __init__(self, matrix, values, bias, input_transforms, output_transforms):
        super().__init__()
        self.matrix = matrix
        names = [leg.name for leg in matrix.output_legs + matrix.input_legs]
        self.numbers = {name: k + 1 for k, name in enumerate(names)}
        self.cores = nn.ParameterList()
        self.constants = []
        for core in matrix.cores():
            for leg in core.legs:
                self.numbers.setdefault(leg.name, len(self.numbers) + 1)
        self.slots = {}  # core key -> index of a parameter, or None
        for core in matrix.cores():
            value = values[core.key]
            if core.key in self.slots:
                continue
            if isinstance(value, nn.Parameter):
                self.slots[core.key] = len(self.cores)
                self.cores.append(value)
            else:
                self.slots[core.key] = None
                self.register_buffer(f"constant_{len(self.slots)}", value, persistent=False)
                self.constants.append((core.key, f"constant_{len(self.slots)}"))
        self.register_buffer("bias", bias, persistent=False)
        self.input_transforms = nn.ModuleList(input_transforms)
        self.output_transforms = nn.ModuleList(output_transforms)

    def core_value(self, core):
        """What the matrix takes of the core: ranges of its legs, the identity's rows put back."""
        slot = self.slots[core.key]
        value = self.cores[slot] if slot is not None else getattr(self, dict(self.constants)[core.key])
        for axis, leg in enumerate(core.legs):
            if leg.extent != leg.stored:
                value = value.narrow(axis, leg.offset, leg.extent)
        if core.leading_identity:
            rank = core.legs[1].extent
            value = torch.cat([torch.eye(rank, dtype=value.dtype, device=value.device), value])
        return value

    def legs_of(self, core):
        return [self.numbers[leg.name] for leg in core.legs]

    def product(self):
        """The sum of the terms as one matrix [out_features, in_features], in the basis of the transforms."""
        kept = [self.numbers[leg.name] for leg in self.matrix.output_legs + self.matrix.input_legs]
        terms = [contract([self.core_value(c) for c in term], [self.legs_of(c) for c in term], kept)
                 for term in self.matrix.terms]
        return sum(terms).reshape(self.matrix.out_features, self.matrix.in_features)

    def forward(self, x):
        lead = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])
        for transform in self.input_transforms:
            x = transform(x)
        kept = [TOKENS] + [self.numbers[leg.name] for leg in self.matrix.output_legs]
        inputs = [TOKENS] + [self.numbers[leg.name] for leg in self.matrix.input_legs]
        x = x.reshape([x.shape[0]] + [leg.extent for leg in self.matrix.input_legs])
        y = sum(contract([self.core_value(c) for c in term] + [x], [self.legs_of(c) for c in term] + [inputs], kept)
                for term in self.matrix.terms)
        y = y.reshape(x.shape[0], self.matrix.out_features)
        for transform in self.output_transforms:
            y = transform(y)
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*lead, -1)
