"""softmax(q k^T / sqrt(d)) v with its gradient: attention.c on a CPU, else plain PyTorch.

PyTorch 1.13 keeps all scores in memory; at 1024 positions that is ten times slower than the
arithmetic.
"""

import torch

from native import call, library


def checked(name, tensors, *sizes):
    if not call(name, tensors, *sizes):
        raise RuntimeError("attention.c: no memory, or a depth it does not know")


class Fused(torch.autograd.Function):
    """q [b, m, c], k and v [b, n, c], bfloat16 and contiguous."""

    @staticmethod
    def forward(ctx, q, k, v, heads):
        b, m, c = q.shape
        out = torch.empty_like(q)
        lse = torch.empty(b * heads, m)
        ctx.sizes = (b, heads, m, k.shape[1], c // heads)
        checked("attention_forward", (q, k, v, out, lse), *ctx.sizes)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        checked("attention_backward", (q, k, v, out, lse, grad.contiguous(), dq, dk, dv),
                *ctx.sizes)
        return dq, dk, dv, None


def attend(q, k, v, heads):
    """Multi-head attention of q [b, m, c] over k, v [b, n, c]; heads are slices of c."""
    b, m, c = q.shape
    if (q.device.type == "cpu" and q.dtype == torch.bfloat16 and c // heads in (16, 32, 48, 64)
            and library()):
        return Fused.apply(q.contiguous(), k.contiguous(), v.contiguous(), heads)
    q = q.float() * (c // heads) ** -0.5  # here and not on the scores, which are many more
    q, k, v = (x.float().view(b, -1, heads, c // heads).transpose(1, 2) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(2, 3), dim=-1)
    return (weights @ v).transpose(1, 2).reshape(b, m, c)
