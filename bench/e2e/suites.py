"""What is compared: suites of groups. The engines of a group take turns in one run, and ratios are to its baseline."""

from dataclasses import dataclass, field
from typing import Callable


@dataclass
class Entry:
    label: str
    kind: str  # "Rankine", "llama.cpp" or "PyTorch"
    model: Callable[[], str]  # makes it where it is not there; returns its path
    flags: list = field(default_factory=list)


@dataclass
class Group:
    title: str
    entries: list
    baseline: str  # the label of the entry that ratios are to
    # Ratios of bytes per token to the baseline's stand beside those of speed.
    by_bytes: bool = False


def same_file(title, path, torch_folder=None):
    """Rankine and llama.cpp on the same GGUF file, and PyTorch on the same numbers where it can read them."""
    entries = [Entry("Rankine", "Rankine", path), Entry("llama.cpp", "llama.cpp", path)]
    if torch_folder:
        entries.append(Entry("PyTorch", "PyTorch", torch_folder))
    return Group(title, entries, "llama.cpp")


def batches(title, path):
    entries = [Entry(f"{n} sequence{'s' if n > 1 else ''}", "Rankine", path, ["--sequences", str(n)])
               for n in (1, 2, 4, 8, 16)]
    return Group(title, entries, "1 sequence")


def factored(title, folder, encode, forms, flags=()):
    """Random folders of the same shape in several forms against the dense one in `encode`; `flags` of the runs."""
    entries = [Entry(label, "Rankine", lambda form=form: folder(*form), list(flags))
               for label, form in [(f"dense {encode}", ["--encode", encode]), *forms]]
    return Group(title, entries, entries[0].label, by_bytes=True)


RANK_FORMS = [(f"U S V, keep {keep}", ["--form", "svd", "--keep", keep, "--encode", "bf16"])
              for keep in ("0.8", "0.5", "0.3")] + [
    ("Tucker, keep 0.5", ["--form", "tucker", "--keep", "0.5", "--encode", "bf16"])]
MPO_FORMS = [(f"MPO, {sites} cores, bond {bond}",
              ["--form", "mpo", "--sites", sites, "--bond", bond, "--encode", "bf16"])
             for sites in ("2", "3") for bond in ("32", "64", "100")]


# Dense forms of all matrices may be made.
FASTEST = ["--plan", "fastest", "--extra-weight-bytes", str(64 << 30)]


def qlr(label, encode, rank, factor_encode="bf16"):
    return label, ["--form", "qlr", "--encode", encode, "--rank", rank, "--factor-encode", factor_encode]


SUMS = [qlr("int4 + L R (r 64, bf16)", "int4:g64", "64"),
        qlr("int4 + L R (r 64, int8)", "int4:g64", "64", "int8:g64"),
        qlr("int2 + L R (r 64, int4)", "int2:g64", "64", "int4:g64")]
SUMS_AGAINST_BF16 = [("dense int4:g64", ["--encode", "int4:g64"]), *SUMS]
SUMS_AGAINST_INT4 = [*SUMS, ("dense e8p", ["--encode", "e8p"]),
                     qlr("e8p + L R (r 64, int4)", "e8p", "64", "int4:g64")]


def smollm2(models, _layers):
    for kind in ("BF16", "Q8_0", "Q4_0"):
        yield same_file(f"SmolLM2-135M {kind}", lambda kind=kind: models.requantised(kind),
                        models.real_folder if kind == "BF16" else None)
    yield same_file("SmolLM2-135M Q4_1, as shipped", lambda: str(models.real_gguf))

    def folder(*flags):
        return models.random_folder("smollm2-135m", None, *flags)
    yield factored("SmolLM2-135M's shape, factored in bf16 (random weights)", folder, "bf16", RANK_FORMS)


def llama_2_7b(models, layers):
    shape, name = "llama-2-7b", f"{layers} layers of Llama 2 7B"
    def folder(*flags):
        return models.random_folder(shape, layers, *flags)
    for kind in ("BF16", "Q8_0", "Q4_0", "Q4_K"):
        yield same_file(f"{name}, {kind}", lambda kind=kind: models.random_gguf(shape, layers, kind),
                        (lambda: folder("--encode", "bf16")) if kind == "BF16" else None)
    yield batches(f"{name}, Q4_0, sequences decoded together", lambda: models.random_gguf(shape, layers, "Q4_0"))
    yield factored(f"{name}, factored in bf16", folder, "bf16", RANK_FORMS)
    yield factored(f"{name}, MPO in bf16", folder, "bf16", MPO_FORMS)
    yield factored(f"{name}, MPO in bf16, the fastest plans", folder, "bf16", MPO_FORMS, FASTEST)
    yield factored(f"{name}, Q + L R against dense bf16", folder, "bf16", SUMS_AGAINST_BF16)
    for n in (1, 4, 16):
        yield factored(f"{name}, Q + L R against dense int4, {n} at once", folder, "int4:g64", SUMS_AGAINST_INT4,
                       ["--sequences", str(n)])


SUITES = {"smollm2": smollm2, "llama-2-7b": llama_2_7b}
