"""The text encoder, with the module names of CLIP's text model."""

import torch
from torch import nn

import config
from layers import LayerNorm, Linear


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width)
                                                                for _ in range(4))

    def forward(self, x):
        b, n, c = x.shape

        def split(y):
            return y.view(b, n, self.heads, c // self.heads).transpose(1, 2)

        q, k, v = (split(f(x).float()) for f in (self.q_proj, self.k_proj, self.v_proj))
        scores = q @ k.transpose(2, 3) * (c // self.heads) ** -0.5
        later = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        weights = torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x):
        h = self.fc1(x).float()
        return self.fc2(h * torch.sigmoid(1.702 * h))


class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = LayerNorm(width), LayerNorm(width)
        self.self_attn, self.mlp = SelfAttention(width, heads), Mlp(width, hidden)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, vocabulary, settings=None):
        super().__init__()
        s = settings or config.CLIP
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(vocabulary, s["width"])
        self.embeddings.position_embedding = nn.Embedding(77, s["width"])
        for table in (self.embeddings.token_embedding, self.embeddings.position_embedding):
            nn.init.normal_(table.weight, std=0.1)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(
            [Layer(s["width"], s["heads"], s["intermediate"]) for _ in range(s["layers"])])
        self.final_layer_norm = LayerNorm(s["width"])

    def embed(self, ids):
        return self.embeddings.token_embedding(ids)

    def forward(self, ids, skip=2, tokens=None):
        """ids [b, 77] -> context [b, 77, width]; skip 1 is the last layer, 2 the one before.

        `tokens` replaces the looked-up token embeddings (for textual inversion)."""
        x = self.embed(ids) if tokens is None else tokens
        x = x + self.embeddings.position_embedding.weight
        layers = self.encoder.layers
        for layer in layers[: len(layers) - skip + 1]:
            x = layer(x)
        return self.final_layer_norm(x)
