"""Brief training of a factored model's cores, on text or against the dense model's next-token distribution."""

import dataclasses
import hashlib

import torch

from . import encodings
from .balance import balance
from .errors import InputError
from .folder import Folder, check_new
from .loss import loss_and_backward, mean_loss
from .model import load, write
from .progress import Progress
from .text import read_windows
from .training import Batches, Clock, StateFile, autocast, rate_factor, relative_groups


def is_factor(matrix, core):
    """Not the only core of its term: the Q of Q + L R, or a dense linear."""
    return all(core is not term[0] for term in matrix.terms if len(term) == 1)


def digest_of(tensors):
    """Of names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy())
    return "sha256:" + digest.hexdigest()


@dataclasses.dataclass
class HealOptions:
    texts: list
    teacher: str | None = None
    distill: float = 1.0  # share of the KL in the loss, with a teacher
    steps: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None
    learning_rate: float = 0.003  # of each core's root mean square, for a step
    warmup: int = 5  # steps
    batch: int = 2  # windows of a step
    context: int = 512
    held_out: int = 8  # windows that choose the best checkpoint
    evaluations: int = 6
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    norms: bool = False
    bf16: bool = False

    def record(self, digest):
        """What makes two runs the same, and what the provenance keeps."""
        limit = {"steps": self.steps, "minutes": self.minutes, "cpu_minutes": self.cpu_minutes}
        return {"text": digest, "objective": f"{self.distill:g} KL" if self.teacher else "cross-entropy",
                **{name: value for name, value in limit.items() if value is not None},
                "learning_rate": self.learning_rate, "warmup": self.warmup, "batch": self.batch,
                "context": self.context, "held_out": self.held_out, "evaluations": self.evaluations,
                "weight_decay": self.weight_decay, "clip": self.clip, "seed": self.seed, "norms": self.norms,
                "bf16": self.bf16}


class Healer:
    """One run. The parameters are the cores by key, and norms by name where they train too."""

    def __init__(self, model_path, out, options):
        self.options, self.out = options, out
        self.folder = Folder(model_path)
        check_new(out)
        windows = read_windows(self.folder, options.texts, options.context, at_least=options.held_out + 1)
        self.digest = windows.digest
        self._split(windows.tokens)
        self.model, self.cores = load(self.folder, trainable=lambda matrix, core: is_factor(matrix, core))
        if not self.cores.parameters():
            raise InputError(f"{model_path} has no factors that can be trained and written again: a dense model, or "
                             "encodings other than floats, affine and nf4 with one level of scales")
        self.teacher = self._load_teacher() if options.teacher else None
        self.share = options.distill if self.teacher else 0.0
        model_digest = digest_of(self.cores.parameters())
        balance(self.model)
        self.parameters = self.cores.parameters()
        self.norms = {}
        if options.norms:
            self.norms = {n: p for n, p in self.model.named_parameters() if n.endswith("norm.weight")}
            for parameter in self.norms.values():
                parameter.requires_grad_()
            self.parameters = {**self.parameters, **self.norms}
        arguments = {"model": model_digest, "teacher": options.teacher, **options.record(self.digest)}
        self.state = StateFile(str(out).rstrip("/") + ".heal", arguments)

    def _split(self, windows):
        """Held-out windows lie at even distances; the others train."""
        count = self.options.held_out
        held = {k * len(windows) // count for k in range(count)}
        self.held_out = windows[sorted(held)]
        self.batches = Batches(windows[[k for k in range(len(windows)) if k not in held]], self.options.batch,
                               self.options.seed)

    def _load_teacher(self):
        folder = Folder(self.options.teacher)
        if folder.tokenizer().to_str() != self.folder.tokenizer().to_str():
            raise InputError(f"--teacher {self.options.teacher} has another tokenizer than {self.folder.path}")
        teacher, _ = load(folder, trainable=lambda matrix, core: False)
        if teacher.config.vocab_size != self.model.config.vocab_size:
            raise InputError(f"--teacher {self.options.teacher} has a vocabulary of {teacher.config.vocab_size}, the "
                             f"model {self.model.config.vocab_size}")
        return teacher

    def held_out_loss(self):
        """The loss that is trained, of the model as it would be stored."""
        kept = {key: p.detach().clone() for key, p in self.parameters.items() if key in self.cores.examples}
        with torch.no_grad():
            for key in kept:
                core, values = self.cores.examples[key], self.parameters[key]
                values.copy_(encodings.decode(core.encoding, encodings.encode(core.encoding, values), values.shape))
            with autocast(self.options.bf16):
                loss = mean_loss(self.model, self.held_out, self.teacher, self.share)
            for key, values in kept.items():
                self.parameters[key].copy_(values)
        return loss

    def step(self, step, share, optimizer):
        """One update; returns the mean loss before it."""
        tokens = self.batches(step)
        positions = tokens.shape[0] * (tokens.shape[1] - 1)
        with autocast(self.options.bf16):
            loss = loss_and_backward(self.model, tokens, 1 / positions, self.teacher, self.share) / positions
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.options.clip)
        if not (torch.isfinite(norm) and loss == loss):
            raise InputError(f"the loss or its gradient is not finite at step {step}; lower --learning-rate")
        factor = rate_factor(step, share, self.options.warmup)
        for group, rate in zip(optimizer.param_groups, self.rates):
            group["lr"] = rate * factor
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def save_state(self, step, clock, optimizer, best):
        tensors = {f"value/{key}": p for key, p in self.parameters.items()}
        tensors.update({f"best/{key}": p for key, p in best["values"].items()})
        for key, p in self.parameters.items():
            for name in ("exp_avg", "exp_avg_sq"):
                if optimizer.state[p]:
                    tensors[f"{name}/{key}"] = optimizer.state[p][name]
        self.state.save(tensors, {"step": step, "wall": clock.wall, "cpu": clock.cpu, "rates": self.rates,
                                  "best": {k: v for k, v in best.items() if k != "values"}})

    def resume(self, clock, optimizer):
        """(step, best) of the saved state, or of the beginning."""
        loaded = self.state.load()
        if loaded is None:
            loss = self.held_out_loss()
            clock.start()
            return 0, {"loss": loss, "step": 0, "first": loss, "values": self._copies()}
        tensors, record = loaded
        self.rates = record["rates"]
        for key, p in self.parameters.items():
            p.data.copy_(tensors[f"value/{key}"])
            if record["step"] > 0:
                optimizer.state[p] = {"step": torch.tensor(float(record["step"])),
                                      **{n: tensors[f"{n}/{key}"] for n in ("exp_avg", "exp_avg_sq")}}
        clock.wall_before, clock.cpu_before = record["wall"], record["cpu"]
        clock.start()
        return record["step"], {**record["best"], "values": {key: tensors[f"best/{key}"] for key in self.parameters}}

    def _copies(self):
        return {key: p.detach().clone() for key, p in self.parameters.items()}

    def run(self):
        options = self.options
        clock = Clock(options.steps, options.minutes, options.cpu_minutes)
        groups = relative_groups(self.parameters, options.learning_rate)
        self.rates = [group["lr"] for group in groups]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=options.weight_decay)
        step, best = self.resume(clock, optimizer)
        progress = Progress("heal")
        share = clock.share(step)
        next_evaluation = (int(share * options.evaluations) + 1) / options.evaluations
        while share < 1:
            loss = self.step(step, share, optimizer)
            step += 1
            share = clock.share(step)
            progress.show(share, f"step {step}, loss {loss:.3f}, held-out {best['loss']:.3f} at best (was "
                          f"{best['first']:.3f})")
            if share >= next_evaluation:
                next_evaluation = (int(share * options.evaluations) + 1) / options.evaluations
                held = self.held_out_loss()
                if held < best["loss"]:
                    best.update(loss=held, step=step, values=self._copies())
                if share < 1:
                    self.save_state(step, clock, optimizer, best)
        progress.finish()
        self.finish(step, clock, best)

    def finish(self, step, clock, best):
        for key, values in best["values"].items():
            self.parameters[key].data.copy_(values)
        if best["step"] == 0:
            raise InputError(f"no step of {step} lowered the held-out loss of {best['first']:.4f}; give more text or "
                             "time, or another --learning-rate")
        record = {**self.options.record(self.digest), "steps": step, "best_step": best["step"],
                  "held_out_loss_before": round(best["first"], 6), "held_out_loss": round(best["loss"], 6)}
        record.pop("minutes", None)
        record.pop("cpu_minutes", None)
        write(self.folder, self.out, self.cores, self.norms, lambda name, old: self._provenance(name, old, record))
        self.state.remove()
        print(f"{self.out}: {step} steps in {clock.wall / 60:.1f} minutes ({clock.cpu / 60:.1f} of processor time), "
              f"held-out loss {best['first']:.4f} -> {best['loss']:.4f} (step {best['step']})")

    @torch.no_grad()
    def _provenance(self, name, old, record):
        """Errors of the old cores go; the new distance from the dense weight is known only with it."""
        gone = ("relative_error", "weighted_error", "pivot_error")
        new = {key: value for key, value in old.items() if key not in gone}
        new["method"] = (old.get("method") or "factors") + "+heal"
        dense = self.teacher.get_submodule(name) if self.teacher else None
        if isinstance(dense, torch.nn.Linear):
            module = self.model.get_submodule(name)
            zero = module(torch.zeros(1, module.matrix.in_features))
            product = (module(torch.eye(module.matrix.in_features)) - zero).T
            new["relative_error"] = (torch.norm(product - dense.weight) / torch.norm(dense.weight)).item()
        new["x-heal"] = record
        return new


def heal(model_path, out, options):
    Healer(model_path, out, options).run()
