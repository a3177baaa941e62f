"""factorization.json (docs/factorization.md) as values, checked: the part of models/checkpoint/validate.h that this
package relies on. The parsed JSON itself stays beside them, so that a writer changes only what it must."""

import dataclasses
import json
import math

from .encodings import FLOATS
from .errors import InputError

MATRIX_KEYS = {"name", "out_features", "in_features", "output_legs", "input_legs", "terms", "bias", "input_transforms",
               "output_transforms", "sorted_leg", "provenance"}
CORE_KEYS = {"name", "legs", "leading_identity", "encoding", "tensors"}
LEG_KEYS = {"name", "extent", "offset", "stored_extent"}
ROLES = {"values", "codes", "scales", "offsets", "super_scales", "super_offsets"}


@dataclasses.dataclass(frozen=True)
class Leg:
    name: str
    extent: int
    offset: int = 0
    stored: int = 0  # extent in the tensor


@dataclasses.dataclass(frozen=True)
class Core:
    name: str
    legs: tuple
    encoding: dict
    tensors: dict  # role -> tensor name
    leading_identity: bool = False

    @property
    def key(self):
        """What cores that share their numbers have in common: the tensor that holds them."""
        return self.tensors["values" if self.encoding["kind"] == "float" else "codes"]

    @property
    def stored_shape(self):
        shape = [leg.stored for leg in self.legs]
        if self.leading_identity:
            shape[0] -= self.legs[1].extent
        return shape


@dataclasses.dataclass(frozen=True)
class Matrix:
    name: str
    out_features: int
    in_features: int
    output_legs: tuple
    input_legs: tuple
    terms: tuple  # of tuples of cores
    bias: str | None
    input_transforms: tuple
    output_transforms: tuple

    def cores(self):
        return [core for term in self.terms for core in term]


def _keys(item, known, place):
    if not isinstance(item, dict):
        raise InputError(f"{place}: an object is expected")
    for key in item:
        if key not in known and key != "comment" and not key.startswith("x-"):
            raise InputError(f"{place}: unknown key {key!r}")


def _core(item, place):
    _keys(item, CORE_KEYS, place)
    legs = []
    for leg in item["legs"]:
        _keys(leg, LEG_KEYS, place)
        extent, offset = leg["extent"], leg.get("offset") or 0
        stored = leg.get("stored_extent") or extent
        if extent < 1 or offset < 0 or offset + extent > stored:
            raise InputError(f"{place}: leg {leg['name']!r} takes [{offset}, {offset + extent}) of {stored}")
        legs.append(Leg(leg["name"], extent, offset, stored))
    encoding = item["encoding"]
    if encoding.get("kind") not in ("float", "affine", "nf4", "e8p"):
        raise InputError(f"{place}: unknown encoding {encoding.get('kind')!r}")
    if encoding["kind"] == "float" and encoding.get("dtype") not in FLOATS:
        raise InputError(f"{place}: unknown dtype {encoding.get('dtype')!r}")
    needed = "values" if encoding["kind"] == "float" else "codes"
    if set(item["tensors"]) - ROLES or needed not in item["tensors"]:
        raise InputError(f"{place}: its encoding needs a tensor for the role {needed!r} and known roles only")
    return Core(item["name"], tuple(legs), encoding, dict(item["tensors"]), bool(item.get("leading_identity")))


def _check_legs(matrix, term, place):
    """Each outer leg on one core, bonds on two or more, one extent each."""
    outer = {leg.name: leg.extent for leg in matrix.output_legs + matrix.input_legs}
    if len(outer) != len(matrix.output_legs) + len(matrix.input_legs):
        raise InputError(f"{place}: an outer leg is there twice")
    seen, extents = {}, dict(outer)
    for core in term:
        for leg in core.legs:
            if extents.setdefault(leg.name, leg.extent) != leg.extent:
                raise InputError(f"{place}: core {core.name!r}: leg {leg.name!r} has extent {leg.extent} here and "
                                 f"{extents[leg.name]} elsewhere")
            seen[leg.name] = seen.get(leg.name, 0) + 1
    for name in extents:
        count = seen.get(name, 0)
        if count != 1 if name in outer else count < 2:
            raise InputError(f"{place}: leg {name!r} is on {count} cores")


def _matrix(item):
    name = item.get("name", "?") if isinstance(item, dict) else "?"
    place = f"matrix {name}"
    _keys(item, MATRIX_KEYS, place)
    terms = []
    for term in item["terms"]:
        _keys(term, {"cores"}, place)
        terms.append(tuple(_core(core, f"{place}: core {core.get('name')}") for core in term["cores"]))
    outer = {side: tuple(Leg(leg["name"], leg["extent"], 0, leg["extent"]) for leg in item[side])
             for side in ("output_legs", "input_legs")}
    matrix = Matrix(name, item["out_features"], item["in_features"], outer["output_legs"], outer["input_legs"],
                    tuple(terms), item.get("bias"), tuple(item.get("input_transforms") or ()),
                    tuple(item.get("output_transforms") or ()))
    for side, features in (("output_legs", matrix.out_features), ("input_legs", matrix.in_features)):
        if math.prod(leg.extent for leg in outer[side]) != features:
            raise InputError(f"{place}: {side} do not multiply to {features}")
    for term in matrix.terms:
        _check_legs(matrix, term, place)
    for transform in matrix.input_transforms + matrix.output_transforms:
        if transform.get("kind") not in ("permutation", "hadamard"):
            raise InputError(f"{place}: unknown transform {transform.get('kind')!r}")
    return matrix


def parse(text, source):
    """(JSON, [Matrix]) of the text; errors begin with `source`."""
    try:
        document = json.loads(text)
        _keys(document, {"format_version", "matrices"}, "the file")
        if document.get("format_version") != 1:
            raise InputError(f"format_version {document.get('format_version')} is unknown; known: 1")
        matrices = [_matrix(item) for item in document["matrices"]]
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: no JSON: {error}") from None
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: a key is missing or has a wrong type: {error}") from None
    if len({m.name for m in matrices}) != len(matrices):
        raise InputError(f"{source}: a matrix is there twice")
    return document, matrices
