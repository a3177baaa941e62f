"""A Rankine folder as transformers' LlamaForCausalLM whose factored linears are FactoredLinear, and back.

Everything computes in f32. A folder's rows of q and k are in Hugging Face's order (rankine convert has undone GGUF's),
so nothing is permuted here.
"""

import copy

import torch
from torch import nn

from . import encodings
from .errors import InputError
from .folder import write_like
from .network import FactoredLinear, Transform

EMBEDDING = "model.embed_tokens"


def read_values(folder, core, place):
    """The core's numbers f32 [stored shape], from its encoding."""
    tensors = {role: folder.tensor(name) for role, name in core.tensors.items()}
    try:
        values = encodings.decode(core.encoding, tensors, core.stored_shape)
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder.path}: {place}: its tensors are not of its encoding and legs: {reason}") from None
    if list(values.shape) != core.stored_shape:
        raise InputError(f"{folder.path}: {place}: shape {list(values.shape)}, expected {core.stored_shape}")
    if not torch.isfinite(values).all():
        raise InputError(f"{folder.path}: {place}: a value is not finite")
    return values


class Cores:
    """All cores of a model by key (the tensor that holds them): nn.Parameter where they can be written again.

    trainable(core) says which may train; the others, and encodings that only decode, are constants.
    """

    def __init__(self, folder, trainable):
        self.folder, self.values, self.examples = folder, {}, {}
        for matrix in folder.matrices.values():
            for core in matrix.cores():
                if core.key in self.values:
                    continue
                values = read_values(folder, core, f"matrix {matrix.name}: core {core.name}")
                trains = matrix.name != EMBEDDING and encodings.can_encode(core.encoding) and trainable(matrix, core)
                self.values[core.key] = nn.Parameter(values) if trains else values
                self.examples[core.key] = core

    def parameters(self):
        """key -> nn.Parameter of those that train, sorted by key."""
        return {key: self.values[key] for key in sorted(self.values)
                if isinstance(self.values[key], nn.Parameter) and self.values[key].requires_grad}

    def encoded(self):
        """tensor name -> tensor of those that train, in their encodings."""
        out = {}
        for key, values in self.parameters().items():
            core = self.examples[key]
            try:
                stored = encodings.encode(core.encoding, values.detach())
            except InputError as error:
                raise InputError(f"core {key}: {error}") from None
            out.update({core.tensors[role]: tensor for role, tensor in stored.items()})
        return out


def _transforms(folder, items):
    return [Transform(t["kind"], folder.tensor(t["indices" if t["kind"] == "permutation" else "signs"]),
                      folder.tensor(t["block"]) if t.get("block") else None, bool(t.get("transposed"))) for t in items]


def factored_linear(folder, matrix, cores):
    bias = folder.tensor(matrix.bias).float() if matrix.bias else None
    return FactoredLinear(matrix, cores.values, bias, _transforms(folder, matrix.input_transforms),
                          _transforms(folder, matrix.output_transforms))


def _config(folder):
    from transformers import LlamaConfig
    kind = folder.config.get("model_type")
    if kind != "llama":
        raise InputError(f"{folder.path}: model_type {kind!r} is not supported; llama is")
    fields = {key: value for key, value in folder.config.items() if key not in ("dtype", "torch_dtype", "model_type")}
    try:
        return LlamaConfig(**fields)
    except Exception as error:  # strict dataclasses of huggingface_hub raise their own kinds
        raise InputError(f"{folder.path}: config.json: {str(error).splitlines()[0]}") from None


def _submodule(model, name, path):
    parent, _, leaf = name.rpartition(".")
    try:
        holder = model.get_submodule(parent)
        getattr(holder, leaf)
    except AttributeError:
        raise InputError(f"{path}: matrix {name} is no linear of this architecture") from None
    return holder, leaf


def load(folder, trainable=lambda matrix, core: True):
    """(LlamaForCausalLM in f32, Cores). Only cores are trainable (requires_grad); nothing else is."""
    from transformers import LlamaForCausalLM
    config = _config(folder)
    cores = Cores(folder, trainable)
    model = LlamaForCausalLM(config).float()
    model.requires_grad_(False)
    state, used = {}, {name for m in folder.matrices.values() for name in tensor_names(m)}
    for name in folder.tensor_names:
        if name not in used:
            state[name] = folder.tensor(name).float()
    for name, matrix in folder.matrices.items():
        if name == EMBEDDING:
            core, = matrix.cores()
            state[name + ".weight"] = cores.values[core.key]
            continue
        holder, leaf = _submodule(model, name, folder.path)
        dense = getattr(holder, leaf)
        if not isinstance(dense, nn.Linear) or tuple(dense.weight.shape) != (matrix.out_features, matrix.in_features):
            raise InputError(f"{folder.path}: matrix {name} is no linear [{matrix.out_features}, "
                             f"{matrix.in_features}] of this architecture")
        setattr(holder, leaf, factored_linear(folder, matrix, cores))
    _load_dense(model, state, config.tie_word_embeddings, folder)
    # ParameterList took the cores after requires_grad_(False).
    model.eval()
    model.config.use_cache = False
    return model, cores


def tensor_names(matrix):
    names = [name for core in matrix.cores() for name in core.tensors.values()]
    for transform in matrix.input_transforms + matrix.output_transforms:
        names += [transform[key] for key in ("indices", "signs", "block") if transform.get(key)]
    return names + ([matrix.bias] if matrix.bias else [])


def _load_dense(model, state, tied, folder):
    expected = {name: p for name, p in model.named_parameters(remove_duplicate=False) if ".cores." not in name}
    for name, parameter in expected.items():
        if name == "lm_head.weight" and tied and name not in state:
            continue
        if name not in state:
            raise InputError(f"{folder.path}: tensor {name} is missing")
        if state[name].shape != parameter.shape:
            raise InputError(f"{folder.path}: tensor {name} has shape {list(state[name].shape)}, expected "
                             f"{list(parameter.shape)}")
        if not torch.isfinite(state[name]).all():
            raise InputError(f"{folder.path}: tensor {name}: a value is not finite")
        with torch.no_grad():
            parameter.copy_(state[name])
    # Rotary frequencies of older checkpoints are no parameters, and computed from the config here.
    extra = [n for n in state if n not in expected and not n.endswith("rotary_emb.inv_freq") and n != "lm_head.weight"]
    if extra:
        raise InputError(f"{folder.path}: tensor {extra[0]} belongs to nothing in this architecture")


def write(folder, out, cores, extra_tensors, provenance):
    """`out`: as `folder`, with the cores' values of now in their encodings, and `extra_tensors` by name.

    provenance(name, old provenance) -> the new one of that matrix, or None where it stays. The sorted leg of a matrix
    whose cores trained goes: they were fitted together, so a prefix is no longer the best matrix of its rank.
    """
    document = copy.deepcopy(folder.document)
    changed = cores.parameters().keys()
    for item in document["matrices"]:
        matrix = folder.matrices[item["name"]]
        if not any(core.key in changed for core in matrix.cores()):
            continue
        item.pop("sorted_leg", None)
        item["provenance"] = provenance(item["name"], item.get("provenance") or {})
    tensors = {name: folder.tensor(name) for name in folder.tensor_names}
    tensors.update(cores.encoded())
    for name, value in extra_tensors.items():
        tensors[name] = value.detach().to(tensors[name].dtype)
    write_like(folder, out, tensors, document)
