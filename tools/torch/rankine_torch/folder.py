"""A Rankine folder as tensors by name, and a new folder like it.

Reading keeps files mapped: a tensor is read when it is asked for. Writing goes to a temporary folder beside the new
one, which appears complete or not at all.
"""

import contextlib
import json
import os
import pathlib
import shutil

import safetensors
import safetensors.torch

from . import manifest
from .errors import InputError

MANIFEST = "factorization.json"
INDEX = "model.safetensors.index.json"


class Folder:
    """config: dict. matrices: name -> manifest.Matrix. document: the manifest's JSON. tensor_names: all of them."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        if not (self.path / "config.json").is_file():
            hint = "; convert it first: rankine convert FILE FOLDER" if self.path.is_file() else ""
            raise InputError(f"{path} is no model folder: it has no config.json{hint}")
        self.config = self._json("config.json")
        self.document, self.matrices = {"format_version": 1, "matrices": []}, {}
        if (self.path / MANIFEST).exists():
            self.document, parsed = manifest.parse(self._text(MANIFEST), str(self.path / MANIFEST))
            self.matrices = {m.name: m for m in parsed}
        self._files = self._open()
        for matrix in self.matrices.values():
            for core in matrix.cores():
                for name in core.tensors.values():
                    if name not in self._files:
                        raise InputError(f"{path}: matrix {matrix.name}: tensor {name} is missing")

    def _text(self, name):
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path / name}: {error}") from None

    def _json(self, name):
        try:
            content = json.loads(self._text(name))
        except json.JSONDecodeError as error:
            raise InputError(f"{self.path / name}: no JSON: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.path / name}: an object is expected")
        return content

    def _open(self):
        """tensor name -> open safetensors file."""
        if (self.path / INDEX).exists():
            names = sorted(set(self._json(INDEX).get("weight_map", {}).values()))
        else:
            names = ["model.safetensors"]
        files = {}
        for name in names:
            if not (self.path / name).is_file():
                raise InputError(f"{self.path} has no {name}")
            try:
                file = safetensors.safe_open(self.path / name, "pt")
            except safetensors.SafetensorError as error:
                raise InputError(f"{self.path / name}: {error}") from None
            files.update({tensor: file for tensor in file.keys()})
        self.weight_files = set(names) | {INDEX}
        return files

    @property
    def tensor_names(self):
        return self._files.keys()

    def tensor(self, name):
        if name not in self._files:
            raise InputError(f"{self.path}: tensor {name} is missing")
        return self._files[name].get_tensor(name)

    def tokenizer(self):
        """A tokenizers.Tokenizer; control tokens spelled in a text stay text, as in rankine eval."""
        from tokenizers import Tokenizer
        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{self.path} has no tokenizer.json; a tokenizer.model alone is not supported")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"{path}: {error}") from None
        tokenizer.encode_special_tokens = True
        return tokenizer


def check_new(path):
    if os.path.lexists(path):
        raise InputError(f"{path} exists already; name a folder that does not")
    if not pathlib.Path(path).absolute().parent.is_dir():
        raise InputError(f"{path}: the folder above it does not exist")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_folder(path):
    """Yields a temporary folder that becomes `path` when the block ends well, and is removed otherwise."""
    check_new(path)
    path = pathlib.Path(path).absolute()
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        for file in partial.rglob("*"):
            _sync(file)
        _sync(partial)
        check_new(path)
        os.rename(partial, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_file(path, tensors):
    """A safetensors file that appears complete or not at all."""
    check_new(path)
    path = pathlib.Path(path).absolute()
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        safetensors.torch.save_file(tensors, partial, {"format": "pt"})
        _sync(partial)
        os.rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_like(folder, out, tensors, document):
    """`out`: as `folder`, with these tensors by name, all of them, and this manifest, which may have no matrix."""
    with new_folder(out) as partial:
        for file in sorted(folder.path.iterdir()):
            if file.is_file() and file.name not in folder.weight_files | {MANIFEST}:
                shutil.copyfile(file, partial / file.name)
        contiguous = {name: tensors[name].detach().contiguous() for name in sorted(tensors)}
        safetensors.torch.save_file(contiguous, partial / "model.safetensors", {"format": "pt"})
        if document["matrices"]:
            (partial / MANIFEST).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
