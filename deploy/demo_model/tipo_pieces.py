"""The vocabulary of the demo's TIPO, in the form of LLaMA's SentencePiece files, and its encoder.

Ids: 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes <0x00> to <0xFF>, then pieces in the order in which
they were merged, single characters, and TIPO's control tokens. The score of a piece is minus its
rank, so earlier merges win; characters rank last. Blanks are U+2581, and every stretch of text
between control tokens begins with one more. Line ends are bytes, as LLaMA has them.

    vocabulary = Vocabulary(texts, merges=256)
    vocabulary.encode("tag: red cat")    # [..]; begin=False leaves out the first blank
"""

import collections
import functools
import re

from tipo_corpus import CONTROLS
from vocabulary import merge

BLANK = "\u2581"
UNKNOWN, BEGIN, END, BYTES = 0, 1, 2, 3
NORMAL_TYPE, UNKNOWN_TYPE, CONTROL_TYPE, BYTE_TYPE = 1, 2, 3, 6
# No piece reaches beyond one of these parts, so they can be merged one by one.
PARTS = re.compile(f"{BLANK}?[A-Za-z]+|{BLANK}?[^A-Za-z\n{BLANK}]|\n|{BLANK}")
STRETCHES = re.compile("(" + "|".join(map(re.escape, CONTROLS)) + ")")


def stretches(text, begin=True):
    """(is a control token, text) in order, blanks written as U+2581."""
    for i, part in enumerate(STRETCHES.split(text)):
        if i % 2:
            yield True, part
        elif part:
            yield False, (BLANK if begin or i else "") + part.replace(" ", BLANK)


def learn(texts, count):
    """(pieces in the order of their merges, characters): always the most frequent pair, the
    alphabetically first among equals."""
    words = collections.Counter()
    for text in texts:
        for control, stretch in stretches(text):
            if not control:
                words.update(PARTS.findall(stretch))
    words.pop("\n", None)
    characters = sorted({c for word in words for c in word})
    split, pieces = {word: list(word) for word in words}, []
    while len(pieces) < count:
        pairs = collections.Counter()
        for word, symbols in split.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if "".join(best) not in pieces:  # two ways to one piece are one piece
            pieces.append("".join(best))
        split = {word: merge(symbols, best) for word, symbols in split.items()}
    return pieces, characters


class Vocabulary:
    def __init__(self, texts, merges):
        pieces, characters = learn(texts, merges)
        ranked = [*pieces, *characters]
        self.tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *ranked,
                       *CONTROLS]
        self.scores = [0.0] * 259 + [-float(rank) for rank in range(len(ranked))] + \
            [0.0] * len(CONTROLS)
        self.types = [UNKNOWN_TYPE, CONTROL_TYPE, CONTROL_TYPE] + [BYTE_TYPE] * 256 + \
            [NORMAL_TYPE] * len(ranked) + [CONTROL_TYPE] * len(CONTROLS)
        self.controls = {token: len(self.tokens) - len(CONTROLS) + i
                         for i, token in enumerate(CONTROLS)}
        self.ids = {piece: 259 + rank for rank, piece in enumerate(ranked)}
        self.part_ids = functools.lru_cache(maxsize=65536)(self.merge)

    def merge(self, part):
        """Ids of one part: the piece with the best score is joined first, then the leftmost."""
        symbols = list(part)
        while True:
            known = [(self.ids[a + b], i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))
                     if a + b in self.ids]
            if not known:
                break
            i = min(known)[1]
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        return [i for symbol in symbols for i in
                ([self.ids[symbol]] if symbol in self.ids else
                 [BYTES + byte for byte in symbol.encode()])]

    def encode(self, text, begin=True):
        """Ids without <s>; `begin` puts the blank before the first stretch too."""
        out = []
        for control, stretch in stretches(text, begin):
            if control:
                out.append(self.controls[stretch])
            else:
                out += [i for part in PARTS.findall(stretch) for i in self.part_ids(part)]
        return out

    def decode(self, ids):
        """The text of ids, for looking at samples."""
        data = b"".join(bytes([i - BYTES]) if BYTES <= i < 259 else self.tokens[i].encode()
                        for i in ids if i not in (BEGIN, END))
        return data.decode("utf-8", "replace").replace(BLANK, " ")
