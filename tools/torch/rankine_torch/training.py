"""What heal and basel share: how long a run is, its learning rate, its order of windows, and its state on disk."""

import contextlib
import json
import math
import os
import time

import safetensors
import safetensors.torch
import torch

from .errors import InputError


class Clock:
    """Share of a run that is done: by steps, wall minutes or processor minutes. Time of earlier parts is added."""

    def __init__(self, steps=None, minutes=None, cpu_minutes=None):
        self.steps, self.minutes, self.cpu_minutes = steps, minutes, cpu_minutes
        self.wall_before = self.cpu_before = 0.0
        self.start()

    def start(self):
        self.wall_start, self.cpu_start = time.monotonic(), time.process_time()

    @property
    def wall(self):
        return self.wall_before + time.monotonic() - self.wall_start

    @property
    def cpu(self):
        return self.cpu_before + time.process_time() - self.cpu_start

    def share(self, step):
        if self.steps is not None:
            return step / self.steps
        if self.cpu_minutes is not None:
            return min(1.0, self.cpu / 60 / self.cpu_minutes)
        return min(1.0, self.wall / 60 / self.minutes)


def rate_factor(step, share, warmup):
    """Linear warm-up over `warmup` steps, times half a cosine from 1 to 0 over the run."""
    return min(1.0, (step + 1) / (warmup + 1)) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class Batches:
    """Windows in a random order, all once before any again; batch `step` is the same however a run came to it."""

    def __init__(self, windows, size, seed):
        self.windows, self.size, self.seed = windows, size, seed
        self.orders = {}

    def _order(self, epoch):
        if epoch not in self.orders:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self.orders = {**{e: o for e, o in self.orders.items() if e == epoch - 1},
                           epoch: torch.randperm(len(self.windows), generator=generator)}
        return self.orders[epoch]

    def __call__(self, step):
        rows = []
        for position in range(step * self.size, (step + 1) * self.size):
            rows.append(self._order(position // len(self.windows))[position % len(self.windows)])
        return self.windows[torch.stack(rows)]


def relative_groups(parameters, rate):
    """AdamW groups: a step changes each core by `rate` of its root mean square, whatever its scale."""
    return [{"params": [p], "lr": rate * max(p.detach().square().mean().sqrt().item(), 1e-8)}
            for p in parameters.values()]


class StateFile:
    """One safetensors file with everything that a run needs to go on; replaced as a whole."""

    def __init__(self, folder, arguments):
        self.folder, self.arguments = folder, arguments
        self.path = os.path.join(folder, "state.safetensors")

    def load(self):
        """(tensors, record), or None where there is no state. Another run's state is refused by the argument."""
        if not os.path.exists(self.path):
            return None
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                record = json.loads(file.metadata()["record"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path} is damaged ({error}); delete {self.folder} to begin anew") from None
        for name, value in self.arguments.items():
            if record["arguments"].get(name) != value:
                raise InputError(f"{self.folder} is of a run with {name} {record['arguments'].get(name)}, not {value}; "
                                 "delete it or give the same arguments")
        return tensors, record

    def save(self, tensors, record):
        os.makedirs(self.folder, exist_ok=True)
        partial = self.path + ".partial"
        tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        record = json.dumps({**record, "arguments": self.arguments})
        safetensors.torch.save_file(tensors, partial, {"record": record})
        os.replace(partial, self.path)

    def remove(self):
        for path in (self.path, self.path + ".partial"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def autocast(enabled):
    return torch.autocast("cpu", torch.bfloat16) if enabled else contextlib.nullcontext()
