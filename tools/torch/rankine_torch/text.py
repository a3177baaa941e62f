"""Text files to windows of token ids, as rankine eval cuts them (tools/eval/token_windows.h)."""

import dataclasses
import hashlib

import torch

from .errors import InputError


@dataclasses.dataclass
class Windows:
    tokens: torch.Tensor  # i64 [windows, length]
    digest: str  # of the token ids, "sha256:..."


def read_tokens(folder, paths):
    text = b""
    for path in paths:
        try:
            with open(path, "rb") as file:
                text += file.read()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{', '.join(map(str, paths))}: byte {error.start} is no UTF-8") from None
    ids = torch.tensor(folder.tokenizer().encode(decoded).ids, dtype=torch.long)
    vocabulary = folder.config.get("vocab_size", 0)
    if len(ids) and int(ids.max()) >= vocabulary:
        raise InputError(f"{folder.path}: the tokenizer gives token {int(ids.max())}, the model has {vocabulary}")
    return ids


def read_windows(folder, paths, length, count=0, at_least=1):
    """Windows of `length` tokens that do not overlap; `count` at even distances over the text, 0 = all of them."""
    if length < 2:
        raise InputError(f"a window of {length} tokens predicts nothing; at least 2")
    ids = read_tokens(folder, paths)
    available = len(ids) // length
    needed = max(count, at_least)
    if available < needed:
        raise InputError(f"the text has {len(ids)} tokens, which is {available} windows of {length}; {needed} are "
                         "needed: give more text or ask for fewer or shorter windows")
    digest = "sha256:" + hashlib.sha256(ids.numpy().tobytes()).hexdigest()
    windows = ids[:available * length].reshape(available, length)
    if count:
        windows = windows[[k * available // count for k in range(count)]]
    return Windows(windows, digest)
