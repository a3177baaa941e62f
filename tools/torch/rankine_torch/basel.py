"""Basel: low-rank factors whose bases are chosen by the loss on a target text (Li et al., arXiv 2405.15877).

Every linear starts as its SVD, sum_k s_k u_k v_k. First only the s are trained on the target text, which re-learns how
much each basis matters there. Then bases are pruned in steps, those of smallest |s| first, while the remaining s and a
few new bases learn to make up for what is lost. The share of the sum of |s| that survives is one number for all
linears, found for the budget, so linears with flatter spectra keep more.
"""

import copy
import dataclasses
import re

import torch
from torch import nn

from . import encodings
from .errors import InputError
from .folder import Folder, check_new, write_like
from .loss import loss_and_backward, mean_loss
from .bases import BasisLinear, ranks_within
from .model import load
from .progress import Progress
from .text import read_windows
from .training import Batches, Clock, autocast, rate_factor


@dataclasses.dataclass
class BaselOptions:
    texts: list
    keep: float = 0.8
    new_rank: int = 8  # new bases of each linear
    prunings: int = 8
    learn_share: float = 0.3  # of the run, before the first pruning
    steps: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None
    learning_rate: float = 0.01  # of the root mean square of s; of 1 / sqrt(m) for new bases
    batch: int = 2
    context: int = 512
    held_out: int = 8
    seed: int = 0
    only: str = ""
    skip: str = ""
    dtype: str = "bf16"
    bf16: bool = False


class Basel:
    def __init__(self, model_path, out, options):
        self.options, self.out = options, out
        self.folder = Folder(model_path)
        check_new(out)
        windows = read_windows(self.folder, options.texts, options.context, at_least=options.held_out + 1)
        self.digest, tokens, count = windows.digest, windows.tokens, options.held_out
        held = {k * len(tokens) // count for k in range(count)}
        self.held_out = tokens[sorted(held)]
        self.batches = Batches(tokens[[k for k in range(len(tokens)) if k not in held]], options.batch, options.seed)
        self.model, _ = load(self.folder, trainable=lambda matrix, core: False)
        self.layers = self._replace(self._select())
        if ranks_within(self.layers, options.keep) is None:
            raise InputError(f"--keep {options.keep:g} does not hold one basis and {options.new_rank} new ones in "
                             "every linear; raise it or lower --new-rank")

    def _select(self):
        chosen = {}
        for name, module in self.model.named_modules():
            linear = isinstance(module, nn.Linear) and name.startswith("model.layers.")
            if linear and re.search(self.options.only, name) and \
                    not (self.options.skip and re.search(self.options.skip, name)):
                chosen[name] = module
        if not chosen:
            raise InputError(f"{self.folder.path} has no dense linear that --only and --skip select")
        return chosen

    def _replace(self, chosen):
        generator = torch.Generator().manual_seed(self.options.seed)
        progress, layers = Progress("basel"), {}
        self.dense = {}
        for k, (name, linear) in enumerate(chosen.items()):
            layers[name] = BasisLinear(linear, self.options.new_rank, generator)
            self.dense[name] = linear.weight.detach()
            parent, _, leaf = name.rpartition(".")
            setattr(self.model.get_submodule(parent), leaf, layers[name])
            progress.show((k + 1) / len(chosen), f"svd of {name}")
        progress.finish()
        return layers

    def _optimizer(self, old=None, kept=None):
        """Of all that trains now. `kept`: name -> positions that pruning kept, whose moments go on."""
        rate = self.options.learning_rate
        groups = []
        for name, layer in self.layers.items():
            groups.append({"params": [layer.s], "lr": rate * layer.s.detach().square().mean().sqrt().item()})
            groups.append({"params": [layer.new_u, layer.new_v], "lr": rate * layer.shape[1] ** -0.5})
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
        for name, layer in self.layers.items() if old else ():
            before = old.state.pop(self.trained_s[name], {})
            if before:
                optimizer.state[layer.s] = {"step": before["step"], "exp_avg": before["exp_avg"][kept[name]],
                                            "exp_avg_sq": before["exp_avg_sq"][kept[name]]}
            for parameter in (layer.new_u, layer.new_v):
                if parameter in old.state:
                    optimizer.state[parameter] = old.state[parameter]
        self.trained_s = {name: layer.s for name, layer in self.layers.items()}
        self.rates = [group["lr"] for group in groups]
        return optimizer

    def _step(self, step, share, optimizer):
        tokens = self.batches(step)
        positions = tokens.shape[0] * (tokens.shape[1] - 1)
        with autocast(self.options.bf16):
            loss = loss_and_backward(self.model, tokens, 1 / positions) / positions
        parameters = [p for layer in self.layers.values() for p in layer.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if not (torch.isfinite(norm) and loss == loss):
            raise InputError(f"the loss or its gradient is not finite at step {step}; lower --learning-rate")
        for group, rate in zip(optimizer.param_groups, self.rates):
            group["lr"] = rate * rate_factor(step, share, 5)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def _prune(self, done):
        """To what the budget leaves when `done` of the prunings are over; the last goes to the budget itself."""
        share = done / self.options.prunings
        target = ranks_within(self.layers, self.options.keep)
        kept = {}
        for name, layer in self.layers.items():
            now = len(layer.s)
            # In equal parts of what is left to prune.
            rank = target[name] + round((now - target[name]) * (1 - 1 / (self.options.prunings - done + 1)))
            kept[name] = layer.prune(max(1, target[name] if share == 1 else rank))
        return kept

    def run(self):
        options = self.options
        with torch.no_grad():
            first = mean_loss(self.model, self.held_out)
        clock = Clock(options.steps, options.minutes, options.cpu_minutes)
        optimizer, progress = self._optimizer(), Progress("basel")
        step, pruned = 0, 0
        while (share := clock.share(step)) < 1:
            # Prunings are spread over the middle of the run; its last fifth only learns.
            due = int((share - options.learn_share) / (0.8 - options.learn_share) * options.prunings) if share >= \
                options.learn_share else 0
            while pruned < min(due, options.prunings):
                pruned += 1
                optimizer = self._optimizer(optimizer, self._prune(pruned))
            loss = self._step(step, share, optimizer)
            step += 1
            progress.show(clock.share(step), f"step {step}, loss {loss:.3f}, prunings {pruned} of {options.prunings}")
        while pruned < options.prunings:
            pruned += 1
            self._prune(pruned)
        progress.finish()
        self._finish(step, clock, first)

    def _finish(self, step, clock, first):
        loss = mean_loss(self.model, self.held_out)
        tensors = {name: self.folder.tensor(name) for name in self.folder.tensor_names}
        document = copy.deepcopy(self.folder.document)
        kept = total = 0
        record = {"text": self.digest, "steps": step, "learning_rate": self.options.learning_rate,
                  "new_rank": self.options.new_rank, "prunings": self.options.prunings, "seed": self.options.seed,
                  "held_out_loss_before": round(first, 6), "held_out_loss": round(loss, 6)}
        for name, layer in self.layers.items():
            m, n = layer.shape
            total += m * n
            kept += min(layer.stored_rank() * (m + n), m * n)
            if layer.stored_rank() * (m + n) < m * n:
                del tensors[name + ".weight"]
                document["matrices"].append(self._store(name, layer, tensors, record))
            else:
                weight = tensors[name + ".weight"]
                tensors[name + ".weight"] = layer.product().detach().to(weight.dtype)
        write_like(self.folder, self.out, tensors, document)
        print(f"{self.out}: {len(self.layers)} linears, {kept / total:.4f} of their parameters kept, {step} steps in "
              f"{clock.wall / 60:.1f} minutes ({clock.cpu / 60:.1f} of processor time), held-out loss {first:.4f} "
              f"dense, {loss:.4f} now")

    def _store(self, name, layer, tensors, record):
        """The matrix's entry of the manifest; its tensors go to `tensors`."""
        values = dict(zip("USV", layer.stored()))
        (m, n), rank = layer.shape, len(values["S"])
        legs = {"o": {"name": "o", "extent": m}, "r": {"name": "r", "extent": rank}, "i": {"name": "i", "extent": n}}
        cores = []
        for core, of in (("U", "or"), ("S", "r"), ("V", "ri")):
            encoding = {"kind": "float", "dtype": "f32" if core == "S" else self.options.dtype}
            tensors[f"{name}.{core}"] = encodings.encode(encoding, values[core])["values"]
            cores.append({"name": core, "legs": [legs[leg] for leg in of], "encoding": encoding,
                          "tensors": {"values": f"{name}.{core}"}})
        error = torch.norm(layer.product().detach() - self.dense[name]) / torch.norm(self.dense[name])
        entry = {"name": name, "out_features": m, "in_features": n, "output_legs": [legs["o"]],
                 "input_legs": [legs["i"]], "terms": [{"cores": cores}]}
        if layer.bias is not None:
            entry["bias"] = name + ".bias"
        entry["provenance"] = {"method": "basel", "keep": self.options.keep, "relative_error": error.item(),
                               "x-basel": record}
        return entry


def basel(model_path, out, options):
    Basel(model_path, out, options).run()
