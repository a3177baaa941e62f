"""The strings that tokenizer goldens are made of: the same ones on every run."""
import random

WORDS = ("the quick brown fox jumps over a lazy dog isn't we'll they've I'm you'd it's HELLO World don'T "
         "naïve café Zürich résumé tokenizer language model in of and to is that for on with as").split()
CODE = ["def fibonacci(n):", "    if n == 0:\n        return 1", "for (int i = 0; i < n; ++i) {", "}\n\n",
        "x = [i**2 for i in range(10)]", "print(f\"{x!r}\")", "#include <vector>\n", "return a->b.c();", "\tfoo(bar, baz)\n",
        "SELECT * FROM t WHERE id = 42;", "<div class=\"a\">&nbsp;</div>", "lambda x: x if x else None", "// comment", "/* c */",
        "\"\\n\\t\\\\\"", "0x1F & ~mask | 1e-5", "std::vector<int> v{1, 2, 3};", "@property\ndef name(self) -> str:", "!=", "=>", "::"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "🇫🇷", "🇩🇪🇯🇵", "1️⃣", "🧑🏿‍🚀", "☺", "⌚️", "🫠", "🤷‍♀️", "✂︎"]
MARKS = ["e\u0301", "a\u0308\u0323", "o\u0323\u0308", "n\u0303", "Z\u0351\u036b\u0343\u0321", "\u0301", "\u0915\u094d\u0937\u093f",
         "ﬁ", "Å", "\u212b", "ſ", "'ſ", "'S", "'LL", "İstanbul", "ǅ", "ᾳ", "\u1e9b\u0323", "한\u1112\u1161\u11ab", "½", "²", "Ⅷ", "①"]
CJK = ["你好世界", "日本語のテキスト", "カタカナ", "ひらがな", "한국어 텍스트", "漢字仮名交じり文。", "「引用」", "㍿", "𠀀𠮷", "ﾊﾝｶｸ", "　全角"]
RTL = ["שלום עולם", "مرحبا بالعالم", "العربية ١٢٣", "\u202bRTL\u202c", "עִבְרִית", "فارسی می\u200cخواهم", "\u200fabc\u200e"]
CONTROL = ["\x00", "\x01", "\x07", "\x08", "\x0b", "\x0c", "\x1b[31m", "\x7f", "\x80", "\x85", "\x9f", "\u200b", "\u2028", "\u2029",
           "\ufeff", "\u180e", "\u00ad", "\ufffd", "\U000e0001", "\ue000", "\u00a0", "\u3000", "\u1680", "\u202f"]
SPACES = [" ", "  ", "   ", "       ", "\n", "\n\n", "\n\n\n\n", "\t", "\t\t\t", " \n", "\n ", " \n \n ", "\r\n", "\r", "\r\n\r\n", " \t ", "  \n  "]
DIGITS = ["0", "7", "42", "123", "1234", "12345678901", "3.14159", "1,000,000", "2024-01-31", "٣٤", "१२३", "+1 (555) 010-9999", "1e10", "v1.2.3"]
PUNCTUATION = [".", ",", "!", "?!", "...", "--", "—", "(", ")", "[x]", "{}", "\"", "'", "''", "``", "$", "€", "%", "^&*", "~", "@user", "#tag", "a_b", "&&"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>", "<unk>", "<|im_start", "|im_end|>",
           "<mask>", "[USER]", "Word", "word", "ÀB", "<tool>", "<tool><tool>", "▁", "▁▁", "<0x0A>", "<0xff>", "Ġ", "Ċ"]
GROUPS = [WORDS, CODE, EMOJI, MARKS, CJK, RTL, CONTROL, SPACES, DIGITS, PUNCTUATION, SPECIAL]


def _prose(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 8))) + rng.choice([".", "!", "?", "", " ", "\n"])


def _mixed(rng):
    return "".join(rng.choice(rng.choice(GROUPS)) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 6)))


def _one_group(rng):
    group = rng.choice(GROUPS)
    return "".join(rng.choice(group) for _ in range(rng.randint(1, 4)))


def _random_code_points(rng):
    ranges = [(0x20, 0x7f), (0x20, 0x7f), (0xa0, 0x24f), (0x300, 0x370), (0x400, 0x500), (0x590, 0x700), (0x900, 0xe00),
              (0x1e00, 0x2070), (0x2100, 0x2c00), (0x3040, 0x3100), (0x4e00, 0x9fa0), (0xac00, 0xd7a0), (0x1f300, 0x1f650)]
    out = []
    for _ in range(rng.randint(1, 10)):
        low, high = rng.choice(ranges)
        out.append(chr(rng.randrange(low, high)))
    return "".join(out)


def strings():
    """At least 3,000 different strings, each singleton of each group among them."""
    rng = random.Random(20240131)
    found = {"": None}
    for group in GROUPS:
        for text in group:
            for variant in (text, " " + text, text + " ", "a" + text + "b", text + "\n" + text):
                found[variant] = None
    makers = [_prose, _mixed, _mixed, _one_group, _random_code_points]
    while len(found) < 3400:
        found[rng.choice(makers)(rng)] = None
    return list(found)
