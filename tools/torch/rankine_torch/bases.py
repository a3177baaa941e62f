"""A linear layer as a sum of weighted bases s_k u_k v_k, for Basel: which of them to keep, and how to store them."""

import torch
from torch import nn
from torch.nn import functional


class BasisLinear(nn.Module):
    """y = (U diag(s) V + U' V') x + bias. u [m, k] and v [k, n] are constant and orthonormal, s [k] trains.

    new_u [m, r'] and new_v [r', n] are bases learnt from what pruning loses; new_u begins at zero, so that adding them
    changes nothing.
    """

    def __init__(self, linear, new_rank, generator):
        super().__init__()
        u, s, v = torch.linalg.svd(linear.weight.detach().double(), full_matrices=False)
        self.register_buffer("u", u.float(), persistent=False)
        self.register_buffer("v", v.float(), persistent=False)
        self.s = nn.Parameter(s.float())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach(), persistent=False)
        m, n = linear.weight.shape
        new_rank = min(new_rank, *linear.weight.shape)
        # Rows of unit norm on average, like those of v.
        self.new_v = nn.Parameter(torch.randn(new_rank, n, generator=generator) / n**0.5)
        self.new_u = nn.Parameter(torch.zeros(m, new_rank))

    @property
    def shape(self):
        return self.u.shape[0], self.v.shape[1]

    def product(self):
        return (self.u * self.s) @ self.v + self.new_u @ self.new_v

    def forward(self, x):
        tokens, (m, n), k = x.numel() // x.shape[-1], self.shape, len(self.s)
        if k * m * n + tokens * m * n < tokens * k * (m + n):
            return functional.linear(x, self.product(), self.bias)
        y = functional.linear(functional.linear(x, self.v) * self.s, self.u, self.bias)
        return y + functional.linear(functional.linear(x, self.new_v), self.new_u)

    @torch.no_grad()
    def prune(self, rank):
        """Keeps the `rank` bases of greatest importance |s|, in their order. Returns their positions before."""
        kept = self.s.abs().topk(rank).indices.sort().values
        self.u, self.v = self.u[:, kept], self.v[kept]
        self.s = nn.Parameter(self.s[kept].clone())
        return kept

    def stored_rank(self):
        return len(self.s) + self.new_u.shape[1]

    @torch.no_grad()
    def stored(self):
        """U [m, r], S [r] falling and not negative, V [r, n] with slices of norm one (or zero)."""
        new_norms = self.new_u.norm(dim=0) * self.new_v.norm(dim=1)
        new_u = functional.normalize(self.new_u, dim=0, eps=1e-30)
        u = torch.cat([self.u * self.s.sign(), new_u], 1)
        v = torch.cat([self.v, functional.normalize(self.new_v, dim=1, eps=1e-30)])
        s, order = torch.cat([self.s.abs(), new_norms]).sort(descending=True, stable=True)
        return u[:, order], s, v[order]


def rank_for_share(importances, share):
    """How many of the greatest add up to `share` of the sum."""
    falling = importances.abs().sort(descending=True).values.double().cumsum(0)
    return min(len(importances), 1 + int((falling < share * falling[-1]).sum()))


def ranks_within(layers, keep):
    """name -> rank of the old bases: one share of the sum of importances in every layer, the greatest whose parameters
    stay within `keep` of the dense ones, new bases counted. None when even one basis each is too many.

    layers: name -> BasisLinear. A layer whose factors would not be smaller than the matrix counts as dense, and keeps
    all of its bases.
    """
    dense = sum(m * n for m, n in (layer.shape for layer in layers.values()))

    def ranks(share):
        out = {}
        for name, layer in layers.items():
            m, n = layer.shape
            rank, new = rank_for_share(layer.s.detach(), share), layer.new_u.shape[1]
            out[name] = rank if (rank + new) * (m + n) < m * n else len(layer.s)
        return out

    def size(chosen):
        total = 0
        for name, rank in chosen.items():
            m, n = layers[name].shape
            total += min((rank + layers[name].new_u.shape[1]) * (m + n), m * n)
        return total

    low, high = 0.0, 1.0
    if size(ranks(low)) > keep * dense:
        return None
    if size(ranks(high)) <= keep * dense:
        return ranks(high)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if size(ranks(middle)) <= keep * dense else (low, middle)
    return ranks(low)
