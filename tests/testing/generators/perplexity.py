"""Writes tests/data/eval/perplexity.json: the perplexity of the demo model by transformers, in float32.

Run: python3 tests/testing/generators/perplexity.py MODEL.gguf (needs torch, transformers, gguf). The text is
tests/data/eval/text.txt, this file as it was when the golden was made.
"""

import json
import math
import pathlib
import sys

import torch
from transformers import AutoTokenizer

from llama_goldens import load_gguf

DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "eval"
CONTEXT = 96


def window_means(model, ids):
    """Mean negative log-likelihood of positions 1..n-1 of each non-overlapping window."""
    means = []
    for begin in range(0, len(ids) - CONTEXT + 1, CONTEXT):
        window = torch.tensor([ids[begin:begin + CONTEXT]])
        with torch.no_grad():
            logits = model(window).logits[0].double()
        losses = -torch.log_softmax(logits[:-1], dim=-1)[torch.arange(CONTEXT - 1), window[0, 1:]]
        means.append(losses.mean().item())
    return means


def main():
    path = pathlib.Path(sys.argv[1]).resolve()
    text = (DATA / "text.txt").read_text()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = load_gguf(str(path))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    means = window_means(model, ids)
    mean = sum(means) / len(means)
    variance = sum((m - mean) ** 2 for m in means) / (len(means) - 1)
    golden = {
        "context": CONTEXT,
        "text_tokens": len(ids),
        "windows": len(means),
        "tokens": len(means) * (CONTEXT - 1),
        "perplexity": math.exp(mean),
        "standard_error": math.exp(mean) * math.sqrt(variance / len(means)),
    }
    (DATA / "perplexity.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
