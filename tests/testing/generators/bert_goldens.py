"""Writes tests/data/bert: small random BERT models with the hidden states that transformers gives in float32.

Usage: python bert_goldens.py OUT
"""

import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer

BASE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=96,
            max_position_embeddings=70, hidden_act="gelu")

CONFIGS = {
    "plain": {},
    # Sizes that are no multiples of a vector, other types and epsilon.
    "odd_sizes": dict(hidden_size=36, intermediate_size=50, num_attention_heads=4, vocab_size=101, type_vocab_size=3,
                      layer_norm_eps=1e-5),
    # Names as in models trained with a head, LayerNorms as TensorFlow called them.
    "prefixed": dict(num_attention_heads=1),
}

# Embedded by "plain" with a vocabulary of its size; longer than its 70 positions, empty, unknown words, accents.
TEXTS = ["a b", "", "Can't 3.5%?", "the \u00e9t\u00e9 & 7 * (8 + 9) = ok!", "7 * 8 - " * 20]

LENGTHS = [1, 33, 5, 70, 32]


def randomise(model, seed):
    """Weights large enough that every part of the network matters to the outputs."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "LayerNorm.weight" in name:
            p.data = 1 + 0.2 * torch.randn(p.shape, generator=generator)
        else:
            p.data = torch.randn(p.shape, generator=generator) * (0.7 if "embeddings." in name else 0.2)


def old_names(folder):
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    renamed = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
               for name, t in tensors.items()}
    assert any(name.startswith("bert.") for name in renamed) and any(name.startswith("cls.") for name in renamed)
    save_file(renamed, path, metadata={"format": "pt"})


def write_embeddings(out, model):
    """Mean and first-token embeddings of TEXTS, by transformers' tokenizer on the first tokens of the golden WordPiece."""
    folder = os.path.join(out, "plain")
    tokens = open(os.path.join(out, "..", "tokenizer", "wordpiece_vocab.txt")).read().split("\n")[:model.config.vocab_size]
    with open(os.path.join(folder, "vocab.txt"), "w") as file:
        file.write("\n".join(tokens) + "\n")
    tokenizer = BertTokenizer(os.path.join(folder, "vocab.txt"))
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=model.config.max_position_embeddings).input_ids
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0].double().numpy()
        rows.append({"text": text, "token_ids": ids, "mean": states.mean(0).round(7).tolist(), "cls": states[0].round(7).tolist()})
    json.dump(rows, open(os.path.join(folder, "embeddings.json"), "w"))


def main(out):
    for index, (name, changes) in enumerate(CONFIGS.items()):
        config = BertConfig(**{**BASE, **changes})
        generator = torch.Generator().manual_seed(index)
        head = BertForMaskedLM(config) if name == "prefixed" else None
        model = (head.bert if head else BertModel(config)).eval().float()
        randomise(head if head else model, index)
        folder = os.path.join(out, name)
        (head if head else model).save_pretrained(folder)
        if head:
            old_names(folder)
        sequences, states = [], []
        for length in LENGTHS:
            ids = torch.randint(0, config.vocab_size, (1, length), generator=generator)
            types = torch.randint(0, config.type_vocab_size, (1, length), generator=generator)
            with torch.no_grad():
                states.append(model(ids, token_type_ids=types).last_hidden_state[0].numpy().astype("<f4"))
            sequences.append({"token_ids": ids[0].tolist(), "token_types": types[0].tolist()})
        if name == "plain":
            write_embeddings(out, model)
        json.dump(sequences, open(os.path.join(folder, "sequences.json"), "w"))
        np.concatenate(states).tofile(os.path.join(folder, "hidden.bin"))


if __name__ == "__main__":
    main(sys.argv[1])
