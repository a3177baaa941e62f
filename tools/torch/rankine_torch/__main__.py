"""python -m rankine_torch fisher ..."""

import argparse
import os
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
    command.add_argument("--text", nargs="+", required=True, metavar="FILE", help="UTF-8 text files, read one after another")
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
    return parser


def _run(arguments):
    options = _parser().parse_args(arguments)
    import torch  # after the flags: it takes seconds
    torch.set_num_threads(options.threads)
    from .fisher import fisher
    fisher(options.model, options.out, options.text, options.windows, options.context)


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
