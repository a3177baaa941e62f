"""Rescaling of cores along their bonds, which changes no product but how well gradient descent runs.

Factors come with orthonormal columns on one side and everything else on the other (U S V of an SVD, the canonical form
of an MPO). A step of a given size then means something else for each core and slice. Here both sides of a bond get
slices of equal norm.
"""

import torch

from .network import FactoredLinear


def _sole_owners(linears):
    """Core keys that one matrix uses, once and whole: only those may be rescaled."""
    uses = {}
    for linear in linears:
        for core in linear.matrix.cores():
            whole = all(leg.extent == leg.stored for leg in core.legs) and not core.leading_identity
            uses[core.key] = uses.get(core.key, 0) + (1 if whole else 2)
    return {key for key, count in uses.items() if count == 1}


def _slice_norms(value, axis):
    return value.movedim(axis, 0).flatten(1).norm(dim=1)


def _scale(value, axis, factors):
    shape = [1] * value.dim()
    shape[axis] = -1
    value.mul_(factors.reshape(shape))


@torch.no_grad()
def balance(model):
    """In place. A core of a bond alone (the S of U S V) becomes ones where it can be moved to both sides."""
    linears = [m for m in model.modules() if isinstance(m, FactoredLinear)]
    owned = _sole_owners(linears)
    for linear in linears:
        outer = {leg.name for leg in linear.matrix.output_legs + linear.matrix.input_legs}
        for term in linear.matrix.terms:
            for bond in sorted({leg.name for core in term for leg in core.legs} - outer):
                _balance_bond(linear, [core for core in term if bond in [leg.name for leg in core.legs]], bond, owned)


def _balance_bond(linear, cores, bond, owned):
    if any(core.key not in owned or linear.slots[core.key] is None for core in cores):
        return
    values = [linear.cores[linear.slots[core.key]].data for core in cores]
    ends = [(v, [leg.name for leg in core.legs].index(bond)) for v, core in zip(values, cores) if v.dim() > 1]
    if len(ends) != 2:
        return
    diagonal = torch.ones(ends[0][0].shape[ends[0][1]])
    for value in values:
        if value.dim() == 1:
            diagonal *= value
            value.fill_(1)
    norms = [_slice_norms(value, axis) for value, axis in ends]
    whole = (norms[0] * norms[1] * diagonal.abs()).sqrt()
    # A slice that is zero on either side stays so on both; its sign goes to the first.
    for (value, axis), norm, sign in zip(ends, norms, (diagonal.sign(), torch.ones_like(diagonal))):
        _scale(value, axis, torch.where(norm > 0, whole / norm.clamp_min(1e-30), torch.zeros_like(norm)) * sign)
