"""LLaMA once more, as plainly as possible: a decoder in float64 and a tokenizer without clever ideas,
to judge the program's by. Both take what gguf.read returns.

    tokens, model = Tokenizer(fields), Llama(fields, tensors)
    ids = [tokens.begin, *tokens.encode("tag: red cat")]
    logits = model.feed(ids)          # [len(ids), vocabulary]; the next call goes on from there

The decoder is the published checkpoints' form, where the rotary partner of an element lies half a
head further; the rows of a GGUF file, whose partners are neighbours, are put back in that order
first. Sources: arXiv 2302.13971 and the papers it names; SentencePiece's byte-pair encoding,
arXiv 1808.06226.
"""

import numpy as np

BLANK = "\u2581"
CONTROL, USER_DEFINED = 3, 4


class Tokenizer:
    def __init__(self, fields):
        self.tokens = fields["tokenizer.ggml.tokens"][1]
        self.scores = fields["tokenizer.ggml.scores"][1]
        kinds = fields["tokenizer.ggml.token_type"][1]
        self.begin = fields["tokenizer.ggml.bos_token_id"][1]
        self.end = fields["tokenizer.ggml.eos_token_id"][1]
        self.unknown = fields["tokenizer.ggml.unknown_token_id"][1]
        self.special = {t.encode(): i for i, (t, kind) in enumerate(zip(self.tokens, kinds))
                        if kind in (CONTROL, USER_DEFINED)}
        self.ids = {t: i for i, (t, kind) in enumerate(zip(self.tokens, kinds)) if kind == 1}
        self.bytes = {int(t[3:5], 16): i for i, (t, kind) in enumerate(zip(self.tokens, kinds))
                      if kind == 6}

    def stretch(self, text):
        """Ids of bytes without special tokens."""
        # Bytes that are no UTF-8 become surrogates, which no piece holds, and then bytes again.
        symbols = list((BLANK + text.decode("utf-8", "surrogateescape")).replace(" ", BLANK))
        while True:
            best = None
            for i in range(len(symbols) - 1):
                piece = self.ids.get(symbols[i] + symbols[i + 1])
                if piece is not None and (best is None or self.scores[piece] > best[0]):
                    best = (self.scores[piece], i)
            if best is None:
                break
            i = best[1]
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
        out = []
        for symbol in symbols:
            if symbol in self.ids:
                out.append(self.ids[symbol])
            else:
                out += [self.bytes[byte] for byte in symbol.encode("utf-8", "surrogateescape")]
        return out

    def encode(self, text):
        """Ids of bytes or a string, without the first token."""
        text = text.encode() if isinstance(text, str) else text
        out, start, at = [], 0, 0
        while at <= len(text):
            found = max((t for t in self.special if text.startswith(t, at)), key=len, default=None)
            if found is None and at < len(text):
                at += 1
                continue
            if at > start:
                out += self.stretch(text[start:at])
            if found is None:
                break
            out.append(self.special[found])
            at += len(found)
            start = at
        return out

    def decode(self, ids):
        """The bytes that ids stand for."""
        back = {i: byte for byte, i in self.bytes.items()}
        return b"".join(bytes([back[i]]) if i in back else
                        self.tokens[i].replace(BLANK, " ").encode() for i in ids)


def halves(matrix, heads, turned):
    """The first `turned` rows of each head from the order 0, t/2, 1, t/2 + 1, ... to 0, 1, 2, ..."""
    each = matrix.reshape(heads, -1, matrix.shape[1])
    order = np.arange(turned).reshape(-1, 2).T.reshape(-1)
    return np.concatenate([each[:, order], each[:, turned:]], axis=1).reshape(matrix.shape)


class Llama:
    """`stored`: what the program keeps its matrices in, whatever the file has."""

    def __init__(self, fields, tensors, stored=np.float16):
        def number(key, default=None):
            return fields.get(f"llama.{key}", (None, default))[1]

        self.heads = number("attention.head_count")
        self.kv_heads = number("attention.head_count_kv", self.heads)
        self.eps = number("attention.layer_norm_rms_epsilon")
        self.theta = number("rope.freq_base", 10000.0)
        self.blocks = number("block_count")
        self.size = number("embedding_length") // self.heads
        self.rotary = number("rope.dimension_count", self.size)
        self.w = {name.removesuffix(".weight"):
                  (array if array.ndim == 1 else array.astype(stored)).astype(np.float64)
                  for name, array in tensors.items()}
        for i in range(self.blocks):
            for part, heads in (("attn_q", self.heads), ("attn_k", self.kv_heads)):
                self.w[f"blk.{i}.{part}"] = halves(self.w[f"blk.{i}.{part}"], heads, self.rotary)
        self.keys = [[] for _ in range(self.blocks)]
        self.values = [[] for _ in range(self.blocks)]

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x) + self.eps) * self.w[name]

    def turned(self, x, position):
        """Heads [h, size] turned by their position."""
        half = self.rotary // 2
        angle = position * self.theta ** (-2.0 * np.arange(half) / self.rotary)
        a, b = x[:, :half], x[:, half:self.rotary]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                               b * np.cos(angle) + a * np.sin(angle), x[:, self.rotary:]], axis=1)

    def attend(self, block, x):
        position, w = len(self.keys[block]), self.w
        q = self.turned((w[f"blk.{block}.attn_q"] @ x).reshape(self.heads, -1), position)
        k = self.turned((w[f"blk.{block}.attn_k"] @ x).reshape(self.kv_heads, -1), position)
        self.keys[block].append(k)
        self.values[block].append((w[f"blk.{block}.attn_v"] @ x).reshape(self.kv_heads, -1))
        keys, values = np.array(self.keys[block]), np.array(self.values[block])
        out = []
        for head in range(self.heads):
            shared = head // (self.heads // self.kv_heads)
            scores = keys[:, shared] @ q[head] / np.sqrt(self.size)
            odds = np.exp(scores - scores.max())
            out.append(odds / odds.sum() @ values[:, shared])
        return w[f"blk.{block}.attn_output"] @ np.concatenate(out)

    def mlp(self, block, x):
        gate = self.w[f"blk.{block}.ffn_gate"] @ x
        up = self.w[f"blk.{block}.ffn_up"] @ x
        return self.w[f"blk.{block}.ffn_down"] @ (gate / (1 + np.exp(-gate)) * up)

    def feed(self, ids):
        """Logits [len(ids), vocabulary] of ids that follow those fed before."""
        rows = []
        for i in ids:
            x = self.w["token_embd"][i]
            for block in range(self.blocks):
                x = x + self.attend(block, self.norm(x, f"blk.{block}.attn_norm"))
                x = x + self.mlp(block, self.norm(x, f"blk.{block}.ffn_norm"))
            out = self.w.get("output", self.w["token_embd"])
            rows.append(out @ self.norm(x, "output_norm"))
        return np.array(rows)
