"""Files of Rankine read with NumPy alone: dense weights of a model folder, statistics, what a factored folder says."""

import json
import pathlib

import numpy as np

MAGIC = b"RKRECORD1\n"


class FileError(Exception):
    """A file is missing, damaged or of another kind; the message names it."""


def read_record(path):
    """(header, payload) of a record file (tools/compress/record_file.h). The digest is left to `rankine factorize`."""
    data = pathlib.Path(path).read_bytes()
    parts = data[len(MAGIC):].split(b"\n", 2) if data.startswith(MAGIC) else []
    if len(parts) != 3 or not parts[1].isdigit():
        raise FileError(f"{path} is not a record of rankine calibrate")
    size = int(parts[1])
    return json.loads(parts[2][:size]), parts[2][size:]


def read_layer_statistics(path):
    """{linear: {"second": H [n, n], "mean_absolute": [n], "tokens": count}} in f64, H = X X^T / tokens.

    The format is that of tools/compress/statistics_file.cc: for each group the mean, the mean of |x|, the means of groups
    of sequences, and the rows of H's lower triangle. Linears of one group share the arrays.
    """
    header, payload = read_record(path)
    values = np.frombuffer(payload[:len(payload) // 8 * 8], "<f8")
    statistics, at = {}, 0
    for group in header["groups"]:
        n, means = group["features"], len(group["group_tokens"])
        first = at + (2 + means) * n
        end = first + n * (n + 1) // 2
        if end > len(values):
            raise FileError(f"{path} is shorter than its header says")
        second = np.zeros((n, n))
        second[np.tril_indices(n)] = values[first:end]
        second += np.tril(second, -1).T
        moments = {"second": second, "mean_absolute": values[at + n:at + 2 * n].copy(), "tokens": group["tokens"]}
        statistics.update(dict.fromkeys(group["linears"], moments))
        at = end
    return statistics


def read_statistics(folder, layers):
    """As read_layer_statistics, of the layers with these numbers."""
    statistics = {}
    for layer in layers:
        path = pathlib.Path(folder, f"layer_{layer:05d}.statistics")
        if not path.exists():
            raise FileError(f"{path} does not exist: make it with `rankine calibrate MODEL --text TEXT --out {folder}`")
        statistics.update(read_layer_statistics(path))
    return statistics


class Weights:
    """The float tensors of a folder's safetensors files, by name, without loading more than is asked for."""

    def __init__(self, folder):
        self._where = {}
        paths = sorted(pathlib.Path(folder).glob("*.safetensors"))
        if not paths:
            raise FileError(f"{folder} holds no safetensors file")
        for path in paths:
            with open(path, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                self._where[name] = (path, 8 + size + entry["data_offsets"][0], entry)

    def __iter__(self):
        return iter(self._where)

    def raw(self, name):
        """(dtype as safetensors names it, shape, bytes)."""
        if name not in self._where:
            raise FileError(f"the model has no tensor {name}: a dense float model is needed")
        path, offset, entry = self._where[name]
        with open(path, "rb") as file:
            file.seek(offset)
            begin, end = entry["data_offsets"]
            return entry["dtype"], entry["shape"], file.read(end - begin)

    def read(self, name):
        """The tensor in f32, exactly."""
        dtype, shape, data = self.raw(name)
        if dtype == "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif dtype in ("F32", "F16"):
            values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)
        else:
            raise FileError(f"{name} has dtype {dtype}: a model of bf16, f16 or f32 is needed")
        return values.reshape(shape)


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes)}."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, data in tensors.values():
            file.write(data)


def read_provenance(folder):
    """{linear: its provenance with "rank": extent of the bond that its cores share last} of factorization.json."""
    path = pathlib.Path(folder, "factorization.json")
    if not path.exists():
        raise FileError(f"{path} does not exist")
    found = {}
    for matrix in json.loads(path.read_text())["matrices"]:
        ends = {leg["name"] for leg in matrix["output_legs"] + matrix["input_legs"]}
        bonds = {leg["name"]: leg["extent"] for core in matrix["terms"][-1]["cores"] for leg in core["legs"]
                 if leg["name"] not in ends}
        if len(bonds) != 1:
            raise FileError(f"{path}: {matrix['name']} is not of one rank")
        found[matrix["name"]] = {**matrix["provenance"], "rank": next(iter(bonds.values()))}
    return found
