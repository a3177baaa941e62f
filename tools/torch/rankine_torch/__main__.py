"""python -m rankine_torch fisher|heal|basel ..."""

import argparse
import os
import re
import sys

from .errors import InputError


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value
    parse.__name__ = f"positive {kind.__name__}"
    return parse


def _add_text(command, windows):
    command.add_argument("--text", nargs="+", required=True, metavar="FILE",
                         help="UTF-8 text files, read one after another")
    command.add_argument("--context", type=positive(int), default=512, help="tokens of a window [512]")
    if windows:
        command.add_argument("--windows", type=positive(int), default=windows,
                             help=f"windows, taken evenly over the text [{windows}]")
    command.add_argument("--threads", type=positive(int), default=len(os.sched_getaffinity(0)))


def _parser():
    parser = Parser(prog="rankine_torch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fisher = commands.add_parser("fisher", help="squared gradients for rankine factorize --method fwsvd")
    fisher.add_argument("model")
    fisher.add_argument("--out", required=True, help="the safetensors file to write")
    _add_text(fisher, 64)
    _add_heal(commands.add_parser("heal", help="train a factored model's cores briefly"))
    _add_basel(commands.add_parser("basel", help="factors whose bases a target text chooses"))
    return parser


def _add_limits(command, rate):
    limit = command.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=positive(float), help="of training [10]")
    limit.add_argument("--cpu-minutes", type=positive(float), help="the same as processor time of all threads together")
    limit.add_argument("--steps", type=positive(int), help="the same in steps: repeats to the bit")
    command.add_argument("--learning-rate", type=positive(float), default=rate,
                         help=f"a step changes a core by this share of its root mean square [{rate:g}]")
    command.add_argument("--batch", type=positive(int), default=2, help="windows of a step [2]")
    command.add_argument("--held-out", type=positive(int), default=8, help="windows that are not trained on [8]")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--bf16", action="store_true", help="products in bf16")


def _add_basel(basel):
    basel.add_argument("model", help="a dense model's folder")
    basel.add_argument("out", help="the folder to write; it must not exist")
    _add_text(basel, 0)
    basel.add_argument("--keep", type=float, default=0.8, help="share of the parameters of all linears together [0.8]")
    basel.add_argument("--new-rank", type=int, default=8, help="new bases of each linear [8]")
    basel.add_argument("--prunings", type=positive(int), default=8, help="steps of pruning [8]")
    basel.add_argument("--only", default="", help="only linears whose name this regular expression finds")
    basel.add_argument("--skip", default="", help="leave out linears whose name this regular expression finds")
    basel.add_argument("--dtype", choices=("bf16", "f16", "f32"), default="bf16", help="of U and V [bf16]")
    _add_limits(basel, 0.01)


def _add_heal(heal):
    heal.add_argument("model", help="a folder of rankine factorize or convert")
    heal.add_argument("out", help="the folder to write; it must not exist")
    _add_text(heal, 0)
    heal.add_argument("--teacher", help="the dense model's folder: learn its next-token distribution")
    heal.add_argument("--distill", type=float, default=1.0,
                      help="share of the KL in the loss with a teacher, the rest is cross-entropy [1]")
    _add_limits(heal, 0.003)
    heal.add_argument("--warmup", type=int, default=5, help="steps of linear warm-up; then a cosine to 0 [5]")
    heal.add_argument("--evaluations", type=positive(int), default=6, help="times that it is looked for [6]")
    heal.add_argument("--weight-decay", type=float, default=0.0)
    heal.add_argument("--clip", type=positive(float), default=1.0, help="norm of the gradient at most [1]")
    heal.add_argument("--norms", action="store_true", help="train the norms' weights too")


def _heal(options):
    from .heal import HealOptions, heal
    if not 0 <= options.distill <= 1:
        raise InputError(f"--distill is a share from 0 to 1, not {options.distill:g}")
    if options.warmup < 0 or options.weight_decay < 0:
        raise InputError("--warmup and --weight-decay are not negative")
    heal(options.model, options.out, _fill(HealOptions, options))


def _fill(kind, options):
    fields = {f: getattr(options, f) for f in kind.__dataclass_fields__ if hasattr(options, f)}
    if not (options.steps or options.minutes or options.cpu_minutes):
        fields["minutes"] = 10.0
    return kind(texts=options.text, **fields)


def _basel(options):
    from .basel import BaselOptions, basel
    if not 0 < options.keep <= 1:
        raise InputError(f"--keep is a share above 0 and at most 1, not {options.keep:g}")
    if options.new_rank < 0:
        raise InputError("--new-rank is not negative")
    for flag in ("only", "skip"):
        try:
            re.compile(getattr(options, flag))
        except re.error as error:
            raise InputError(f"--{flag} {getattr(options, flag)!r} is no regular expression: {error}") from None
    basel(options.model, options.out, _fill(BaselOptions, options))


def _run(arguments):
    options = _parser().parse_args(arguments)
    import torch  # after the flags: it takes seconds
    torch.set_num_threads(options.threads)
    if options.command == "fisher":
        from .fisher import fisher
        fisher(options.model, options.out, options.text, options.windows, options.context)
    elif options.command == "heal":
        _heal(options)
    else:
        _basel(options)


def main(arguments=None):
    try:
        _run(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    except (OSError, MemoryError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted")


if __name__ == "__main__":
    main()
