"""Prints the tables of models/tokenizer/bert_unicode.cc: where `tokenizers`, whose categories are those of Unicode 8,
differs from the categories of utf8proc; and the digests of tests/models/tokenizer/wordpiece_test.cc.

Usage: python bert_unicode.py libutf8proc.so.2
"""

import ctypes
import sys

from tokenizers import normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
MN, PUNCTUATION, CONTROL = {6}, set(range(12, 19)), {26, 27, 29}  # utf8proc_category_t


def sets():
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    strip = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    split = pre_tokenizers.BertPreTokenizer()
    removed = {c for c in POINTS if clean.normalize_str("a" + chr(c) + "b") == "ab"} - {0xFFFD}
    marks = {c for c in POINTS if strip.normalize_str(chr(c)) == ""}
    punctuation = {c for c in POINTS if c >= 0x80 and [p for p, _ in split.pre_tokenize_str("a" + chr(c) + "b")] == ["a", chr(c), "b"]}
    return removed, marks, punctuation


def ranges(points):
    result = []
    for c in sorted(points):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def digest(points):
    h = 0xCBF29CE484222325
    for c in sorted(points):
        h = ((h ^ c) * 0x100000001B3) % 2**64
    return f"{h:016x}"


def main(library):
    category = ctypes.CDLL(library).utf8proc_category
    removed, marks, punctuation = sets()
    known = {c: category(c) for c in POINTS}
    for name, ours, theirs in (("Control", CONTROL, removed), ("Mark", MN, marks), ("Punctuation", PUNCTUATION, punctuation)):
        of_utf8proc = {c for c in POINTS if known[c] in ours and (name != "Punctuation" or c >= 0x80)}
        # White space goes another way.
        of_utf8proc -= {0x9, 0xA, 0xD} if name == "Control" else set()
        text = ", ".join(f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(of_utf8proc ^ theirs))
        print(f"constexpr Range kOther{name}[] = {{{text}}};")
        print(f"// {name}: {len(theirs)} points, digest {digest(theirs)}")


if __name__ == "__main__":
    main(sys.argv[1])
