"""SVD-LLM's own functions (AIoT-MLSys-Lab/SVD-LLM, SVDLLM.py) on given weights and H, a stand-in for the model around them.

A case: keep. H times the tokens is the sum that it gathers. All seven linears of each layer are needed. Its Cholesky
factors, damped as it does, come from profle_svdllm and go to whitening. Where the inputs have "prefix_second", H behind a
factored prefix, local_update refits U to it, as whitening_local_update has it.
"""

import sys
import types

import peer_exchange

checkout, inputs, outputs, settings = peer_exchange.arguments()
sys.path.insert(0, checkout)
peer_exchange.leave_out("datasets")  # loads calibration and evaluation sets

import torch
from torch import nn

import SVDLLM

PARTS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
if not torch.cuda.is_available():
    torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor  # local_update names the device; here it is the CPU


class StandIn(nn.Module):
    """A model as SVDLLM.py addresses one: model.layers[i].self_attn.q_proj. Calling it leaves H where its hooks would."""

    def __init__(self, layers):
        super().__init__()
        self.config = types.SimpleNamespace(**settings["config"])
        self.model = nn.Module()
        self.model.layers = nn.ModuleList(self._layer(layer) for layer in layers)

    def _layer(self, prefix):
        layer = nn.Module()
        layer.hidden_size = self.config.hidden_size
        for part, names in PARTS.items():
            setattr(layer, part, nn.Module())
            for name in names:
                given = inputs[f"{prefix}.{part}.{name}"]
                linear = nn.Linear(given["weight"].shape[1], given["weight"].shape[0], bias=False)
                linear.weight.data = torch.from_numpy(given["weight"])
                linear.given = given
                setattr(getattr(layer, part), name, linear)
        return layer

    def forward(self):
        for module in self.modules():
            if hasattr(module, "given"):
                module.raw_scaling_diag_matrix = torch.from_numpy(module.given["second"]) * settings["tokens"]


def product(u, v):
    return (u.double() @ v.double()).numpy(), u.shape[1]


def whitened(case, layers, profile):
    model = StandIn(layers)
    SVDLLM.whitening("llama", model, profile, case["keep"], "cpu")
    results = {}
    for layer, made in zip(layers, model.model.layers):
        for part, names in PARTS.items():
            for name in names:
                pair = [getattr(getattr(made, part), name.replace("proj", f"{x}_proj")).weight for x in "uv"]
                results[f"{layer}.{part}.{name}"] = product(*pair)
    return results


def updated(case, layers, profile):
    model, results = StandIn(layers), {}
    for i, layer in enumerate(layers):
        for name, linear in SVDLLM.find_layers(model.model.layers[i]).items():
            update = SVDLLM.local_update(linear, profile[i][name], case["keep"], name)
            # As few inputs as have this H: only X X^T counts in a least-squares problem.
            values, vectors = torch.linalg.eigh(torch.from_numpy(linear.given["prefix_second"]) * settings["tokens"])
            x = (vectors * values.clamp(min=0).sqrt()).T.float()[None]
            update.add_batch_update_u(x, linear(x))
            results[f"{layer}.{name}"] = product(*update.fasterprune())
    return results


with torch.no_grad():
    layers = list(dict.fromkeys(name.rsplit(".", 2)[0] for name in inputs))
    profile = SVDLLM.profle_svdllm("llama", StandIn(layers), [{}], "cpu")
    make = updated if "prefix_second" in next(iter(inputs.values())) else whitened
    peer_exchange.write(outputs, [make(case, layers, profile) for case in settings["cases"]])
