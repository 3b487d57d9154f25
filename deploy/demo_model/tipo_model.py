"""LLaMA, small: RMSNorm, rotary positions, gated MLP, no biases, an output of its own.

The module names are those of the published checkpoints, and each head's rotary pairs are the
element i and the one half a head further, as there. Sources: RMSNorm arXiv 1910.07467, rotary
positions arXiv 2104.09864, gated MLP arXiv 2002.05202.
"""

import torch
import torch.nn.functional as F
from torch import nn

import config
from layers import PRECISION, Linear


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + config.TIPO["eps"]) * self.weight


def rotation(length, size):
    """(cos, sin) [length, size / 2] of every position and pair."""
    rates = config.TIPO["theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return angles.cos().float(), angles.sin().float()


def rotated(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x, turn):
        b, n, c = x.shape

        def split(y):
            return y.float().view(b, n, self.heads, c // self.heads).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        t = PRECISION["dtype"]
        q, k, v = rotated(q, *turn).to(t), rotated(k, *turn).to(t), v.to(t)
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(2, 3)).float() * (c // self.heads) ** -0.5
        weights = torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1)
        return self.o_proj((weights.to(t) @ v).transpose(1, 2).reshape(b, n, c)).float()


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj, self.up_proj = (Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)).float()


class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)
        self.self_attn, self.mlp = Attention(width, heads), Mlp(width, hidden)

    def forward(self, x, turn):
        x = x + self.self_attn(self.input_layernorm(x), turn)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        s = config.TIPO
        self.embed_tokens = nn.Embedding(vocabulary, s["hidden"])
        nn.init.normal_(self.embed_tokens.weight, std=0.1)
        self.layers = nn.ModuleList([Layer(s["hidden"], s["heads"], s["mlp"])
                                     for _ in range(s["layers"])])
        self.norm = Norm(s["hidden"])
        self.lm_head = Linear(s["hidden"], vocabulary, bias=False)

    def forward(self, ids):
        """ids [b, n] -> hidden state [b, n, hidden] before the output matrix."""
        turn = rotation(ids.shape[1], config.TIPO["hidden"] // config.TIPO["heads"])
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, turn)
        return self.norm(x)
