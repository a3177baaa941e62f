"""Makes tests/data/tokenizer from Hugging Face `tokenizers` and `sentencepiece`:

    python tests/testing/generators/tokenizer_goldens.py GGUF

GGUF is the demo model. The small tokenizers are trained here on the strings themselves, with the patterns that the real
models publish; of the ids of those only a digest per string is kept (16 bits of FNV-1a over the decimal ids).
"""
import json
import os
import pathlib
import sys

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_strings import strings

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "tokenizer"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTE_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def digest(values):
    h = 0xCBF29CE484222325
    for byte in " ".join(map(str, values)).encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return f"{h % 2**16:04x}"


def smollm2(path):
    """The tokenizer that SmolLM2 publishes, put together from the GGUF's vocabulary."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t, kind in zip(tokens, types) if kind == 3])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_level_bpe(texts, pre_tokenizer, special, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    # The control tokens are added after training, behind the vocabulary, as the real models have them.
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, initial_alphabet=BYTE_ALPHABET, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    return tokenizer


def split_and_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def with_bos(tokenizer, bos, eos=None):
    single = f"{bos} $A" + (f" {eos}" if eos else "")
    tokens = [(t, tokenizer.token_to_id(t)) for t in (bos, eos) if t]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=tokens)
    return tokenizer


def gpt2(texts):
    return byte_level_bpe(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])


def llama3(texts):
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    return with_bos(byte_level_bpe(texts, split_and_bytes(LLAMA3), special, ignore_merges=True), "<|begin_of_text|>")


def qwen2(texts):
    return byte_level_bpe(texts, split_and_bytes(QWEN2), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizers.NFC())


def llama2(texts):
    """BPE over characters with byte_fallback and no pre-tokenizer, as Llama-2's tokenizer.json."""
    alphabet = {c for c in "".join(texts) if c.isascii() and c.isprintable()} | {"▁"}
    trainer = trainers.BpeTrainer(vocab_size=900, limit_alphabet=len(alphabet), initial_alphabet=sorted(alphabet), show_progress=False,
                                  special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)], max_token_length=12)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    # No text with < in it: merges must not lead to control tokens, which Rankine would not let through.
    trained.train_from_iterator([t for t in texts if t.isascii() and "<" not in t], trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return with_bos(tokenizer, "<s>")


def metaspace(texts):
    """Metaspace, compatibility normal form, lower case, unknown characters without fallback."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(r"\s{2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split("x", "merged_with_previous")])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, limit_alphabet=200, special_tokens=["<unk>", "<s>", "</s>"],
                                                             show_progress=False))
    tokenizer.add_tokens([AddedToken("<tool>", single_word=False, normalized=True), AddedToken("àb", normalized=True)])
    return with_bos(tokenizer, "<s>", "</s>")


def flags(texts):
    """Every flag of added tokens; a decomposing normalizer; runs of digits kept whole; a space before each text."""
    tokenizer = byte_level_bpe(texts, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False),
                                                               pre_tokenizers.ByteLevel(add_prefix_space=True)]), [], normalizers.NFD())
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("[USER]", rstrip=True, normalized=False),
                                  AddedToken("<s>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("word", single_word=True), AddedToken("A\u0300B", normalized=True), AddedToken("<tool>", normalized=False),
                          AddedToken("<tool><tool>", rstrip=True, normalized=False), AddedToken("\n\n", normalized=False)])
    return tokenizer


def behaviors(texts):
    """Split in all its behaviours, by pattern and by string, inverted too."""
    steps = [pre_tokenizers.Split(Regex(r"[.!?]+"), "merged_with_previous"), pre_tokenizers.Split(Regex(r"[(\[{<]"), "merged_with_next"),
             pre_tokenizers.Split(Regex(r"\p{N}"), "contiguous"), pre_tokenizers.Split("\t", "removed"),
             pre_tokenizers.Split(Regex(r"\p{L}+|[^\p{L}]+"), "isolated", invert=True), pre_tokenizers.Split(Regex(r"^ +| +$"), "isolated"),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    return byte_level_bpe(texts, pre_tokenizers.Sequence(steps), ["<|endoftext|>"], normalizers.NFKD())


def wordpiece(texts):
    """As BERT's uncased models."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=1200, limit_alphabet=300, special_tokens=special, show_progress=False))
    return with_bos(tokenizer, "[CLS]", "[SEP]")


def wordpiece_cased(texts):
    """As BERT's cased models: no accents stripped, another limit and prefix, BertProcessing."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12, continuing_subword_prefix="@@"))
    tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="@@", cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=900, limit_alphabet=300, special_tokens=special, show_progress=False,
                                                                   continuing_subword_prefix="@@"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]")))
    return tokenizer


def write_vocabulary(tokenizer, path):
    vocabulary = tokenizer.get_vocab()
    path.write_text("".join(token + "\n" for token in sorted(vocabulary, key=vocabulary.get)))


def train_sentencepiece(name, texts, **options):
    corpus = OUT / "corpus.txt"
    # Other characters than these stay unknown, so that byte fallback is met.
    known = [t.replace("\n", " ") for t in texts if t.strip() and "\x00" not in t and max(t) < "\u0250"]
    corpus.write_text("\n".join(known) + "\n")
    os.chdir(OUT)  # the model records the names that it is given
    sentencepiece.SentencePieceTrainer.train(input=corpus.name, model_prefix=name, vocab_size=900, byte_fallback=True,
                                             character_coverage=0.995, user_defined_symbols=["<tool>"], hard_vocab_limit=False, num_threads=1, minloglevel=2, **options)
    corpus.unlink()
    os.remove(OUT / f"{name}.vocab")
    (OUT / f"{name}.model").rename(OUT / f"{name}.spm")
    return sentencepiece.SentencePieceProcessor(model_file=str(OUT / f"{name}.spm"))


def unless_tied(processor, text, value):
    """Releases of sentencepiece resolve a tie between two segmentations differently; such strings prove nothing."""
    best = processor.nbest_encode(text, nbest_size=2) if text.strip() else []
    scores = [sum(processor.get_score(i) for i in ids) for ids in best]
    tied = len(best) == 2 and abs(scores[0] - scores[1]) < 1e-3
    return "tied" if tied else value


def encode(tokenizer, text, parse_special, add_special):
    tokenizer.encode_special_tokens = not parse_special
    return tokenizer.encode(text, add_special_tokens=add_special).ids


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    texts = strings()
    (OUT / "strings.json").write_text("[\n" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts) + "\n]\n")
    real = smollm2(sys.argv[1])
    (OUT / "smollm2.ids").write_text("".join(" ".join(map(str, encode(real, t, True, True))) + "\n" for t in texts))

    digests = {"smollm2": [digest(encode(real, t, False, True)) for t in texts]}
    for make in (gpt2, llama3, qwen2, llama2, metaspace, flags, behaviors, wordpiece, wordpiece_cased):
        name = make.__name__
        tokenizer = make(texts)
        tokenizer.save(str(OUT / f"{name}.json"), pretty=False)
        if name == "wordpiece":
            write_vocabulary(tokenizer, OUT / "wordpiece_vocab.txt")
        parsed = [encode(tokenizer, t, True, True) for t in texts]
        digests[name + ".parsed"] = [digest(ids) for ids in parsed]
        digests[name + ".plain"] = [digest(encode(tokenizer, t, False, False)) for t in texts]
        digests[name + ".decoded"] = [digest(tokenizer.decode(ids).encode()) for ids in parsed]
    vocabularies = {}
    for name, options in (("spm_bpe", {"model_type": "bpe", "normalization_rule_name": "identity", "remove_extra_whitespaces": False}),
                          ("spm_unigram", {"model_type": "unigram", "normalization_rule_name": "identity", "remove_extra_whitespaces": False})):
        processor = train_sentencepiece(name, texts, **options)
        digests[name + ".plain"] = [digest(processor.encode(t)) for t in texts]
        digests[name + ".decoded"] = [digest(processor.decode(processor.encode(t)).encode()) for t in texts]
        if name == "spm_unigram":
            digests[name + ".plain"] = [unless_tied(processor, t, value) for t, value in zip(texts, digests[name + ".plain"])]
            print(name, "strings with a tie:", digests[name + ".plain"].count("tied"))
        kinds = [2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else
                 4 if processor.id_to_piece(i) == "<tool>" else 1 for i in range(processor.get_piece_size())]
        vocabularies[name] = {"tokens": [processor.id_to_piece(i) for i in range(len(kinds))],
                              "scores": [processor.get_score(i) for i in range(len(kinds))], "types": kinds}
    (OUT / "spm_bpe_vocabulary.json").write_text(json.dumps(vocabularies["spm_bpe"], ensure_ascii=False) + "\n")
    lines = [f"{json.dumps(name)}: {json.dumps(''.join(values))}" for name, values in digests.items()]
    (OUT / "digests.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
