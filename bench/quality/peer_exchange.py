"""What the programs peer_*.py share: they run an authors' checkout, in a process and a Python of its own.

Each is called as `PYTHON peer_X.py CHECKOUT INPUTS OUTPUTS SETTINGS`. INPUTS, an .npz: LINEAR|weight [m, n] f32, LINEAR|second
[n, n] f64, LINEAR|mean_absolute [n] f64. SETTINGS: JSON {"tokens", "config", "cases": [settings of each case]}. OUTPUTS, an
.npz: for case K from 0, K|LINEAR|matrix [m, n] f64, the product of what the authors' code made, and K|LINEAR|rank.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import types

import numpy as np


class _StubModule(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args, **kwargs):
            raise NotImplementedError(f"{self.__name__}.{name} is left out of this comparison, and was called")
        return type(name, (), {"__init__": refuse})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages):
        self._packages = packages

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in self._packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StubModule(spec.name)

    def exec_module(self, module):
        pass


def leave_out(*packages):
    """Imports of these packages give names that raise NotImplementedError when they are called.

    For what a checkout imports beside the functions compared here: loaders of data sets, evaluation, kernels of inference.
    """
    sys.meta_path.insert(0, _StubFinder(packages))


def arguments():
    """(checkout, inputs {linear: {"weight", "second", "mean_absolute"}}, path of the outputs, settings)."""
    checkout, inputs_path, outputs_path, settings = sys.argv[1:]
    inputs = {}
    with np.load(inputs_path) as arrays:
        for key in arrays:
            linear, part = key.split("|")
            inputs.setdefault(linear, {})[part] = arrays[key]
    return checkout, inputs, outputs_path, json.loads(settings)


def write(path, results):
    """results: for each case {linear: (matrix [m, n], rank)}."""
    arrays = {}
    for case, made in enumerate(results):
        for linear, (matrix, rank) in made.items():
            arrays[f"{case}|{linear}|matrix"] = np.asarray(matrix, np.float64)
            arrays[f"{case}|{linear}|rank"] = rank
    np.savez(path, **arrays)
