#!/usr/bin/env python3
"""Turns the pickles of a model folder (pytorch_model.bin, adapter_model.bin, *.pt, *.pth) into safetensors.

Usage: python pickle_to_safetensors.py FOLDER [--out FOLDER]      (needs torch and safetensors)

A pickle can run any code when it is read. torch.load(weights_only=True) admits tensors and plain containers alone; what
holds more (a whole model object, as SVD-LLM saves it) is refused here. Such a file must be saved again as a state dict,
in the environment that made it: torch.save(model.state_dict(), "pytorch_model.bin").
"""

import argparse
import pathlib
import pickle
import re
import sys

import torch
from safetensors.torch import save_file

PATTERNS = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth")


def fail(message):
    sys.exit(f"error: {message}")


def find_pickles(folder):
    """The files of the first pattern that has any: shards of one model."""
    for pattern in PATTERNS:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    fail(f"{folder}: no pickle (.bin, .pt or .pth) in this folder")


def load(path):
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message proposes weights_only=False, which is just what must not be done.
        reason = re.search(r"(Unsupported|GLOBAL|Trying)[^.]*", str(error))
        fail(f"{path} holds more than tensors, so it is not read{f' ({reason.group()})' if reason else ''}. Save it "
             "again as a state dict where it was made: torch.save(model.state_dict(), 'pytorch_model.bin')")
    except (RuntimeError, EOFError) as error:
        fail(f"{path} is damaged or no file of torch.save: {str(error).splitlines()[0]}")
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content


def collect(files):
    """All tensors; one storage under several names (a tied embedding) is kept once, under the first of them."""
    tensors, seen = {}, {}
    for path in files:
        content = load(path)
        if not isinstance(content, dict):
            fail(f"{path} holds a {type(content).__name__}, not a state dict")
        for name, tensor in content.items():
            if not isinstance(tensor, torch.Tensor):
                fail(f"{path}: '{name}' is a {type(tensor).__name__}, not a tensor")
            if name in tensors:
                fail(f"{path}: '{name}' is in an earlier shard already")
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
            if tensor.numel() and place in seen:
                print(f"{name} is the same tensor as {seen[place]}: written once")
                continue
            seen[place] = name
            tensors[name] = tensor.to(torch.float32) if tensor.dtype == torch.float64 else tensor
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="where the safetensors go (default: the folder itself)")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        fail(f"{arguments.folder}: no such folder")
    files = find_pickles(arguments.folder)
    adapter = (arguments.folder / "adapter_config.json").exists()
    out = (arguments.out or arguments.folder) / ("adapter_model.safetensors" if adapter else "model.safetensors")
    if out.exists():
        fail(f"{out} exists already: remove it or choose another folder with --out")
    tensors = collect(files)
    # safetensors wants each tensor whole and alone in its memory.
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out, metadata={"format": "pt"})
    print(f"{out}: {len(tensors)} tensors of {', '.join(file.name for file in files)}")


if __name__ == "__main__":
    main()
