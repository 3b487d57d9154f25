"""A ControlNet of the denoiser, with the module names of the published files (`control_model.`):
a second encoder that sees a hint, a picture of edges, and what it adds to the denoiser's skips.
L. Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models, arXiv 2302.05543."""

import torch
from torch import nn

from layers import conv
from unet import UNet, time_features, zeroed

HINT = ((3, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 96, 2), (96, 96, 1), (96, 256, 2))


def hint_block(width):
    """3x3 convolutions down to an eighth of the side, SiLU between them; the last is zero."""
    layers = []
    for cin, cout, stride in HINT:
        first = conv(cin, cout, 3, stride)
        # keeps the variance of what goes through, SiLU's loss included
        nn.init.normal_(first.weight, std=1.6 * first.weight[0].numel() ** -0.5)
        nn.init.zeros_(first.bias)
        layers += [first, nn.SiLU()]
    return nn.Sequential(*layers, zeroed(conv(HINT[-1][1], width)))


class ControlNet(nn.Module):
    def __init__(self, settings=None):
        super().__init__()
        source = UNet(settings)
        self.width = source.width
        self.time_embed, self.input_blocks, self.middle_block = (
            source.time_embed, source.input_blocks, source.middle_block)
        self.input_hint_block = hint_block(self.width)
        self.zero_convs = nn.ModuleList([nn.ModuleList([zeroed(conv(width, width, 1))])
                                         for width in source.skip_widths])
        last = source.skip_widths[-1]
        self.middle_block_out = nn.ModuleList([zeroed(conv(last, last, 1))])

    def begin_as(self, unet):
        """Take the encoder of a denoiser."""
        own, theirs = self.state_dict(), unet.state_dict()
        self.load_state_dict({name: theirs.get(name, own[name]) for name in own})

    def forward(self, x, hint, t, context):
        """What to add to each skip and, last, to the middle. hint: [n, 3, 8 h, 8 w] in 0..1, where
        the batch holds each picture b / n times in a row."""
        emb = self.time_embed(time_features(t, self.width))
        seen = self.input_hint_block(hint)
        h = self.input_blocks[0][0](x) + seen.repeat_interleave(len(x) // len(hint), dim=0)
        out = [self.zero_convs[0][0](h)]
        for block, zero in zip(self.input_blocks[1:], self.zero_convs[1:]):
            for part in block:
                h = part(h, emb, context)
            out.append(zero[0](h))
        for part in self.middle_block:
            h = part(h, emb, context)
        return [*out, self.middle_block_out[0](h)]
