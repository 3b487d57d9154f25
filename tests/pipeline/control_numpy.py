"""SD1.5's denoiser with a ControlNet once more, as plainly as possible, to judge the program's by:
in float64, of any widths, for one picture, without a thought of speed (seconds for the demo model).

    model = Denoiser("demo.safetensors")
    control = ControlNet("demo-edges.safetensors")
    parts = control.parts(x, hint, t, context)             # one per skip, then the middle's
    eps = model.noise(x, t, context, [0.7 * p for p in parts])
    plain = model.noise(x, t, context)

x [4, h, w] of any sides, hint [3, 8h, 8w] in 0..1, t a number, context [n, c], eps [4, h, w]. What
the blocks hold is read off the names of the tensors, the number of heads from the metadata (8 where
it says nothing). Sources: R. Rombach et al., arXiv 2112.10752; L. Zhang et al., arXiv 2302.05543.
"""

import json
import math
import struct

import numpy as np

GROUPS = 32
HEADS = 8


def read(path):
    """(tensors in float64, metadata) of a safetensors file of F16, F32 or F64."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[entry["dtype"]]
        array = np.frombuffer(data[begin:end], kind).reshape(entry["shape"])
        tensors[name] = array.astype(np.float64)
    return tensors, metadata


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def time_features(t, width):
    """Cosines, then sines, of t at width / 2 frequencies from 1 down to almost 1 / 10000."""
    angles = t * 10000.0 ** (-np.arange(width // 2) / (width // 2))
    return np.concatenate([np.cos(angles), np.sin(angles)])


def stretched(x, height, width):
    """Nearest neighbours of a map half as large; of odd sides the last row or column is cut."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]


class Encoder:
    """The half that a denoiser and its ControlNet share: `w` maps names to arrays."""

    def __init__(self, path, prefix):
        tensors, metadata = read(path)
        self.w = {name[len(prefix):]: array for name, array in tensors.items() if name.startswith(prefix)}
        said = json.loads(metadata.get("latentd.test_config", "{}")).get("unet", {})
        self.heads = said.get("num_heads", HEADS)

    # ---- Layers ----------------------------------------------------------------------------------

    def linear(self, name, x):
        """x [..., in]; a 1x1 convolution's matrix is one too."""
        matrix = self.w[name + ".weight"]
        y = x @ matrix.reshape(matrix.shape[0], -1).T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def conv(self, name, x, stride=1):
        """A convolution of x [c, h, w] with zeros around it."""
        kernel = self.w[name + ".weight"]
        size = kernel.shape[2]
        _, height, width = x.shape
        padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
        y = self.w[name + ".bias"][:, None, None]
        for i in range(size):
            for j in range(size):
                part = padded[:, i:i + height:stride, j:j + width:stride]
                y = y + np.tensordot(kernel[:, :, i, j], part, axes=1)
        return y

    def group_norm(self, name, x, eps):
        groups = x.reshape(GROUPS, -1)
        mean, variance = groups.mean(axis=1, keepdims=True), groups.var(axis=1, keepdims=True)
        y = ((groups - mean) / np.sqrt(variance + eps)).reshape(x.shape)
        return y * self.w[name + ".weight"][:, None, None] + self.w[name + ".bias"][:, None, None]

    def layer_norm(self, name, x):
        y = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return y * self.w[name + ".weight"] + self.w[name + ".bias"]

    def attention(self, name, x, context):
        """x [m, c] looks at context [n, d]; heads are slices of c."""
        q, k, v = (self.linear(f"{name}.{part}", y)
                   for part, y in (("to_q", x), ("to_k", context), ("to_v", context)))
        size = q.shape[1] // self.heads
        out = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            out.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(size)) @ v[:, part])
        return self.linear(name + ".to_out.0", np.concatenate(out, axis=1))

    # ---- Parts of blocks -------------------------------------------------------------------------

    def res(self, name, x, emb):
        h = self.conv(name + ".in_layers.2", silu(self.group_norm(name + ".in_layers.0", x, 1e-5)))
        h = h + self.linear(name + ".emb_layers.1", silu(emb))[:, None, None]
        h = self.conv(name + ".out_layers.3", silu(self.group_norm(name + ".out_layers.0", h, 1e-5)))
        skip = name + ".skip_connection"
        return h + (self.conv(skip, x) if skip + ".weight" in self.w else x)

    def transformer(self, name, x, context):
        tokens = self.group_norm(name + ".norm", x, 1e-6).reshape(x.shape[0], -1).T
        tokens = self.linear(name + ".proj_in", tokens)
        block = name + ".transformer_blocks.0"
        normed = self.layer_norm(block + ".norm1", tokens)
        tokens = tokens + self.attention(block + ".attn1", normed, normed)
        tokens = tokens + self.attention(block + ".attn2", self.layer_norm(block + ".norm2", tokens), context)
        value, gate = np.split(self.linear(block + ".ff.net.0.proj", self.layer_norm(block + ".norm3", tokens)), 2, axis=1)
        tokens = tokens + self.linear(block + ".ff.net.2", value * gelu(gate))
        return x + self.linear(name + ".proj_out", tokens).T.reshape(x.shape)

    def block(self, name, x, emb, context, size=None):
        """All parts of a block in their order; `size` is what the map grows to where it does."""
        number = 0
        while True:
            part = f"{name}.{number}"
            if part + ".in_layers.0.weight" in self.w:
                x = self.res(part, x, emb)
            elif part + ".proj_in.weight" in self.w:
                x = self.transformer(part, x, context)
            elif part + ".op.weight" in self.w:
                x = self.conv(part + ".op", x, stride=2)
            elif part + ".conv.weight" in self.w:
                x = self.conv(part + ".conv", stretched(x, *size))
            elif part + ".weight" in self.w:
                x = self.conv(part, x)
            else:
                return x
            number += 1

    def time(self, t):
        width = self.w["time_embed.0.weight"].shape[1]
        return self.linear("time_embed.2", silu(self.linear("time_embed.0", time_features(t, width))))

    def count(self, side):
        return len({name.split(".")[1] for name in self.w if name.startswith(side + ".")})

    def encode(self, x, emb, context, seen=0):
        """(skips, the middle's result); `seen` is added to what the first block gives."""
        skips = []
        for i in range(self.count("input_blocks")):
            x = self.block(f"input_blocks.{i}", x, emb, context) + (0 if i else seen)
            skips.append(x)
        return skips, self.block("middle_block", x, emb, context)


class Denoiser(Encoder):
    def __init__(self, path):
        super().__init__(path, "model.diffusion_model.")

    def noise(self, x, t, context, parts=None):
        """What the network takes for noise; `parts` go to the skips and, the last, to the middle."""
        emb = self.time(t)
        skips, h = self.encode(x, emb, context)
        if parts is not None:
            assert len(parts) == len(skips) + 1
            skips, h = [skip + part for skip, part in zip(skips, parts)], h + parts[-1]
        for i in range(self.count("output_blocks")):
            h = np.concatenate([h, skips.pop()])
            h = self.block(f"output_blocks.{i}", h, emb, context, skips[-1].shape[1:] if skips else None)
        return self.conv("out.2", silu(self.group_norm("out.0", h, 1e-5)))


class ControlNet(Encoder):
    STRIDES = {0: 1, 2: 1, 4: 2, 6: 1, 8: 2, 10: 1, 12: 2, 14: 1}  # of the hint's convolutions

    def __init__(self, path):
        super().__init__(path, "control_model.")

    def seen(self, hint):
        for number, stride in self.STRIDES.items():
            hint = self.conv(f"input_hint_block.{number}", hint, stride)
            if number < max(self.STRIDES):
                hint = silu(hint)
        return hint

    def parts(self, x, hint, t, context):
        """What the denoiser adds at full strength: one map per skip, then the middle's."""
        skips, middle = self.encode(x, self.time(t), context, self.seen(hint))
        return [self.conv(f"zero_convs.{i}.0", skip) for i, skip in enumerate(skips)] + [
            self.conv("middle_block_out.0", middle)]
