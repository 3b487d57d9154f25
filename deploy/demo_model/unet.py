"""The denoiser, with the module names of a single-file checkpoint (`model.diffusion_model.`)."""

import torch
from torch import nn

import config
from attention import attend
from layers import LayerNorm, Linear, Norm, conv, double, gated


def zeroed(module):
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def time_features(t, width):
    """Cosines first, then sines, of t at width / 2 frequencies from 1 down to 1 / 10000."""
    half = width // 2
    f = torch.exp(-torch.arange(half, device=t.device) * (9.210340371976184 / half))
    angles = t.float()[:, None] * f
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Res(nn.Module):
    def __init__(self, cin, cout, time):
        super().__init__()
        self.in_layers = nn.Sequential(Norm(cin, 1e-5), nn.Identity(), conv(cin, cout))
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(time, cout))
        self.out_layers = nn.Sequential(Norm(cout, 1e-5), nn.Identity(), nn.Identity(),
                                        zeroed(conv(cout, cout)))
        self.skip_connection = conv(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, emb, context):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context, width, bias=False)
        self.to_v = Linear(context, width, bias=False)
        self.to_out = nn.Sequential(Linear(width, width))

    def forward(self, x, context):
        return self.to_out(attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = Linear(width, 8 * width)

    def forward(self, x):
        return gated(self.proj(x))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(Gate(width), nn.Identity(), Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads)
        self.attn2 = CrossAttention(width, context, heads)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(width) for _ in range(3))

    def forward(self, x, context):
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm, self.proj_in = Norm(width, 1e-6, silu=False), conv(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, context, heads)])
        self.proj_out = zeroed(conv(width, width, 1))

    def forward(self, x, emb, context):
        h = self.proj_in(self.norm(x))
        tokens = self.transformer_blocks[0](h.flatten(2).transpose(1, 2), context)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(h.shape))


class Down(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = conv(width, width, 3, 2, 1)

    def forward(self, x, emb, context):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = conv(width, width)

    def forward(self, x, emb, context):
        return self.conv(double(x))




class UNet(nn.Module):
    def __init__(self, settings=None):
        super().__init__()
        s = settings or config.UNET
        ch, mult, heads, ctx = (s[k] for k in ("model_channels", "channel_mult", "num_heads",
                                               "context_dim"))
        self.width, time, last = ch, 4 * ch, len(mult) - 1
        self.time_embed = nn.Sequential(Linear(ch, time), nn.SiLU(), Linear(time, time))
        self.input_blocks = nn.ModuleList([nn.ModuleList([conv(4, ch)])])
        now, skips = ch, [ch]
        for level, m in enumerate(mult):
            for _ in range(2):
                parts = [Res(now, ch * m, time)]
                now = ch * m
                if level < last:
                    parts.append(Transformer(now, ctx, heads))
                self.input_blocks.append(nn.ModuleList(parts))
                skips.append(now)
            if level < last:
                self.input_blocks.append(nn.ModuleList([Down(now)]))
                skips.append(now)
        self.skip_widths = tuple(skips)
        self.middle_block = nn.ModuleList([Res(now, now, time), Transformer(now, ctx, heads),
                                           Res(now, now, time)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(3):
                parts = [Res(now + skips.pop(), ch * m, time)]
                now = ch * m
                if level < last:
                    parts.append(Transformer(now, ctx, heads))
                if level > 0 and i == 2:
                    parts.append(Up(now))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(Norm(now, 1e-5), nn.Identity(), zeroed(conv(now, 4)))

    def forward(self, x, t, context, control=None):
        """x [b, 4, h, w] with sides that are multiples of 8, t [b], context [b, n, c] -> noise.

        `control`: what to add to each skip and, last, to the middle block's result."""
        emb = self.time_embed(time_features(t, self.width))
        h = self.input_blocks[0][0](x)
        skips = [h]
        for block in self.input_blocks[1:]:
            for part in block:
                h = part(h, emb, context)
            skips.append(h)
        for part in self.middle_block:
            h = part(h, emb, context)
        if control:
            skips = [skip + change for skip, change in zip(skips, control)]
            h = h + control[-1]
        for block in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            for part in block:
                h = part(h, emb, context)
        return self.out(h).float()
