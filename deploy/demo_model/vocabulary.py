"""The demo model's own byte-pair vocabulary, in CLIP's text format, and its encoder.

Ids: 256 byte symbols, the same with `</w>`, one per merge in order, start, end. The merges are
learnt from the words that prompts hold (scene.words), so each of them is one token; any other word
falls apart into letters, which training has met as noise to be ignored.
"""

import functools
import re

import scene

BYTES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES += [b for b in range(256) if b not in BYTES]
POSITION = {byte: i for i, byte in enumerate(BYTES)}
PIECES = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")
LENGTH = 77


def merge(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


@functools.lru_cache(maxsize=1)
def merges():
    """Pairs in order: always the most frequent one, the alphabetically first among equals."""
    split = [list(word[:-1]) + [word[-1] + "</w>"] for word in scene.words()]
    learnt = []
    while True:
        counts = {}
        for word in split:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            return learnt
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(best)
        split = [merge(word, best) for word in split]


def merges_text():
    """The file next to the model, and the metadata inside it."""
    return "#version: latentd demo\n" + "".join(f"{a} {b}\n" for a, b in merges())


def size():
    return 512 + len(merges()) + 2


@functools.lru_cache(maxsize=65536)
def piece_ids(piece):
    ranks = {pair: rank for rank, pair in enumerate(merges())}
    ids = {"".join(pair): 512 + rank for pair, rank in ranks.items()}
    symbols = list(piece[:-1]) + [piece[-1] + "</w>"]
    while len(symbols) > 1:
        best = min(zip(symbols, symbols[1:]), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        symbols = merge(symbols, best)
    out = []
    for symbol in symbols:
        plain = symbol.replace("</w>", "")
        byte = POSITION[ord(plain)] + (256 if symbol != plain else 0) if len(plain) == 1 else None
        out.append(byte if byte is not None else ids[symbol])
    return out


def encode(text):
    """Ids of one chunk of 77: start, up to 75 ids, then ends. ASCII only."""
    start, end = size() - 2, size() - 1
    ids = [i for piece in PIECES.findall(text.lower()) for i in piece_ids(piece)]
    ids = [start, *ids[: LENGTH - 2]]
    return ids + [end] * (LENGTH - len(ids))
