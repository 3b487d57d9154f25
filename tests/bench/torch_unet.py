#!/usr/bin/env python3
"""One guided UNet step of ours and of PyTorch, turn and turn about on one device in one run.

PyTorch at its best: channels-last convolutions, float16, fused attention, torch.compile with
max-autotune and CUDA graphs; where it cannot compile, that is said and the same network runs eagerly
in one CUDA graph. The same weights and inputs on both sides, and float32 PyTorch as judge of
both results. So what is printed is a ratio that the device's clocks and neighbours cannot turn.

    torch_unet.py --latentd PROGRAM --model FILE [--size 1024x1024] [--batch 1] [--json FILE]
    torch_unet.py --latentd PROGRAM --model FILE --device cpu --smoke     tries the script itself

`--wait FILE`: compile first, then wait until FILE exists before anything is timed, so that compiling
can share the time in which our program is built. The weights are random, with each matrix of the
spread 1 / sqrt(fan in), so activations have the size real ones have. Exits 1 if ours is not within
tolerance of float32; a slower ratio is a result, not an error.
"""
import argparse
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

try:
    import numpy
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    sys.exit(f"torch_unet: {error}; PyTorch and NumPy are needed")

TOKENS = 77
TIMESTEP = 601.0
SD15 = {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "num_heads": 8, "context_dim": 768}
# Relative L2 of one evaluation against float32 (kernels.md 15).
LIMITS = {"fp16": 1e-2, "bf16": 4e-2, "fp32": 1e-4}


# ---- The network, with the checkpoint's own names --------------------------------------------------

def attend(q, k, v, heads):
    batch, rows, channels = q.shape
    q, k, v = (t.reshape(batch, -1, heads, channels // heads).transpose(1, 2) for t in (q, k, v))
    if hasattr(F, "scaled_dot_product_attention"):
        out = F.scaled_dot_product_attention(q, k, v)
    else:  # PyTorch before 2.0
        out = torch.softmax(q @ k.transpose(2, 3) * (channels // heads) ** -0.5, dim=-1) @ v
    return out.transpose(1, 2).reshape(batch, rows, channels)


class Attention(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x, context):
        return self.to_out[0](attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.ModuleList([Gate(channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, channels, heads)
        self.attn2 = Attention(channels, context, heads)
        self.ff = FeedForward(channels)

    def forward(self, x, context):
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([Block(channels, context, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, temb, context):
        batch, channels, height, width = x.shape
        h = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        h = self.transformer_blocks[0](h, context)
        h = h.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + self.proj_out(h)


class Residual(nn.Module):
    def __init__(self, channels, out, embedding):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(),
                                       nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(),
                                        nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Conv2d(channels, out, 1) if out != channels else nn.Identity()

    def forward(self, x, temb, context):
        h = self.in_layers(x) + self.emb_layers(temb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class First(nn.Conv2d):
    def forward(self, x, temb, context):
        return super().forward(x)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, temb, context):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, temb, context):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def run(layers, x, temb, context):
    for layer in layers:
        x = layer(x, temb, context)
    return x


class UNet(nn.Module):
    def __init__(self, model_channels, channel_mult, num_heads, context_dim):
        super().__init__()
        base, wide = model_channels, 4 * model_channels
        self.base = base

        def level(channels, out, attention):
            parts = [Residual(channels, out, wide)]
            return parts + ([Transformer(out, context_dim, num_heads)] if attention else [])

        self.time_embed = nn.Sequential(nn.Linear(base, wide), nn.SiLU(), nn.Linear(wide, wide))
        inputs, skips, channels = [[First(4, base, 3, padding=1)]], [base], base
        last = len(channel_mult) - 1
        for i, mult in enumerate(channel_mult):
            for _ in range(2):
                inputs.append(level(channels, base * mult, i < last))
                channels = base * mult
                skips.append(channels)
            if i < last:
                inputs.append([Down(channels)])
                skips.append(channels)
        self.input_blocks = nn.ModuleList(nn.ModuleList(b) for b in inputs)
        self.middle_block = nn.ModuleList([Residual(channels, channels, wide),
                                           Transformer(channels, context_dim, num_heads),
                                           Residual(channels, channels, wide)])
        outputs = []
        for i in range(last, -1, -1):
            for j in range(3):
                block = level(channels + skips.pop(), base * channel_mult[i], i < last)
                channels = base * channel_mult[i]
                outputs.append(block + ([Up(channels)] if i > 0 and j == 2 else []))
        self.output_blocks = nn.ModuleList(nn.ModuleList(b) for b in outputs)
        self.out = nn.Sequential(nn.GroupNorm(32, base), nn.SiLU(), nn.Conv2d(base, 4, 3, padding=1))

    def forward(self, x, t, context):
        half = self.base // 2
        f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = t[:, None].float() * f
        temb = self.time_embed(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1).to(x.dtype))
        skips = []
        for block in self.input_blocks:
            x = run(block, x, temb, context)
            skips.append(x)
        x = run(self.middle_block, x, temb, context)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, skips.pop()], dim=1), temb, context)
        return self.out(x)


# ---- The checkpoint --------------------------------------------------------------------------------

PREFIX = "model.diffusion_model."
TYPES = {"F16": numpy.float16, "F32": numpy.float32}


def open_checkpoint(path):
    """(widths, {name without prefix: numpy array}) of a safetensors file."""
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    size = struct.unpack("<Q", data[:8].tobytes())[0]
    header = json.loads(data[8:8 + size].tobytes())
    widths = json.loads(header.get("__metadata__", {}).get("latentd.test_config", "{}"))
    tensors = {}
    for name, entry in header.items():
        if name.startswith(PREFIX):
            begin, end = entry["data_offsets"]
            raw = numpy.frombuffer(data[8 + size + begin:8 + size + end], dtype=TYPES[entry["dtype"]])
            tensors[name[len(PREFIX):]] = raw.reshape(entry["shape"])
    return widths.get("unet", SD15), tensors


def load_weights(model, tensors):
    """Every parameter, in place, so that what was compiled stays."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(tensors[name].astype(numpy.float32)))


# ---- Both sides ------------------------------------------------------------------------------------

class Ours:
    def __init__(self, args, folder):
        command = [args.latentd, "bench", "step", "--pipe", "--model", args.model, "--size", args.size,
                   "--batch", str(args.batch), "--inputs", folder, "--backend", args.device,
                   "--precision", args.precision]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.answer()
        if not ready.startswith("ready "):
            sys.exit(f"torch_unet: our side says '{ready}'")
        self.description = ready[6:]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("torch_unet: our side ended early")
        return line.strip()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def steps(self, count):
        return [float(word) for word in self.ask(f"step {count}").split()[1:]]

    def result(self, path, shape):
        self.ask(f"eps {path}")
        return numpy.fromfile(path, dtype=numpy.float32).reshape(shape)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class Theirs:
    """`mode` tells how it runs in the end, `notes` why it is not what was asked for."""

    def __init__(self, model, args, x, context):
        self.cuda = args.device == "cuda"
        self.inputs = [torch.from_numpy(x).to(args.device, args.dtype).contiguous(
            memory_format=torch.channels_last),
            torch.full((len(x),), TIMESTEP, device=args.device),
            torch.from_numpy(context).to(args.device, args.dtype)]
        self.model, self.graph, self.out, self.notes = model, None, None, []
        if not self.compile(args.mode):
            self.run_eagerly()

    def compile(self, mode):
        if mode == "eager":
            return False
        if not hasattr(torch, "compile"):
            self.note(f"PyTorch {torch.__version__} has no torch.compile (2.0 brought it)")
            return False
        eager = self.model
        try:
            import torch._inductor.config as inductor
            inductor.conv_1x1_as_mm = True  # a 1x1 convolution of channels-last data is a matmul
            self.model, self.mode = torch.compile(eager, mode=mode, fullgraph=True), mode
            for _ in range(3):
                self.step()
        except Exception as error:  # whatever a compiler stumbles over
            self.note(f"torch.compile failed: {first_line(error)}")
            self.model = eager
            return False
        return True

    def run_eagerly(self):
        self.mode = "eager"
        for _ in range(3):
            self.step()
        if not self.cuda:
            return
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(graph):
                self.out = self.model(*self.inputs)
            self.graph, self.mode = graph, "eager in a CUDA graph"
        except RuntimeError as error:
            self.note(f"no CUDA graph: {first_line(error)}")

    def note(self, sentence):
        self.notes.append(sentence)
        print(f"note: {sentence}", flush=True)

    def step(self):
        if self.graph:
            self.graph.replay()
            out = self.out
        else:  # nothing keeps the output: a compiled model's graph reuses its memory
            with torch.inference_mode():
                out = self.model(*self.inputs)
        if self.cuda:
            torch.cuda.synchronize()
        return out

    def steps(self, count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.step()
            times.append(1000 * (time.perf_counter() - start))
        return times


def relative_l2(a, b):
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    return float(numpy.linalg.norm(a - b) / numpy.linalg.norm(b))


def judge(widths, tensors, args, x, context):
    """The same network in float32, without TF32."""
    if args.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    model = UNet(**widths).to(args.device).eval()
    load_weights(model, tensors)
    with torch.inference_mode():
        rows = [model(*(torch.from_numpy(part[i:i + 1]).to(args.device) for part in (x,)),
                      torch.full((1,), TIMESTEP, device=args.device),
                      torch.from_numpy(context[i:i + 1]).to(args.device)).float().cpu().numpy()
                for i in range(len(x))]
    del model
    return numpy.concatenate(rows)


def ceilings(args):
    """What PyTorch's matrix product and copy reach on this device: they owe nothing to our kernels."""
    side, rounds = 8192, 10
    a, b, c = (torch.randn(side, side, device=args.device, dtype=args.dtype) for _ in range(3))

    def milliseconds(function):
        times = []
        for _ in range(rounds + 3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times[3:])

    product = milliseconds(lambda: torch.mm(a, b, out=c))
    copy = milliseconds(lambda: c.copy_(a))
    moved = 2 * a.numel() * a.element_size()
    return {"matrix_tflops": 2e-9 * side ** 3 / product, "copy_gbps": 1e-6 * moved / copy}


def write_json(args, figures):
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


# ---- Main ------------------------------------------------------------------------------------------

def wait_for(path, seconds):
    end = time.monotonic() + seconds
    while path and not os.path.exists(path):
        if time.monotonic() > end:
            sys.exit(f"torch_unet: {path} did not come in {seconds} s")
        time.sleep(0.2)


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latentd", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="evaluations a turn")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="fp16", choices=("fp16", "bf16"))
    parser.add_argument("--mode", default="max-autotune", help="of torch.compile, or eager")
    parser.add_argument("--wait", help="compile, then wait for this file")
    parser.add_argument("--wait-seconds", type=float, default=600)
    parser.add_argument("--smoke", action="store_true", help="few turns; for trying the script")
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    if args.smoke:
        args.rounds, args.steps = 2, 2
    args.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[args.precision]
    if args.device == "cpu":
        args.dtype, args.precision_name = torch.float32, "fp32"
    else:
        args.precision_name = args.precision
    return args


def main():
    args = parse_args()
    width, height = (int(part) // 8 for part in args.size.split("x"))
    rows = 2 * args.batch
    # Before the checkpoint is there, only its shapes are needed, and those are SD1.5's.
    widths, tensors = (SD15, None) if args.wait else open_checkpoint(args.model)
    random = numpy.random.default_rng(1)
    latents = random.standard_normal((args.batch, 4, height, width), dtype=numpy.float32)
    x = numpy.repeat(latents, 2, axis=0)
    context = random.standard_normal((rows, TOKENS, widths["context_dim"]), dtype=numpy.float32)

    torch.backends.cudnn.benchmark = True  # its own best convolution for each shape
    start = time.monotonic()
    model = UNet(**widths).to(args.device, args.dtype).to(memory_format=torch.channels_last).eval()
    theirs = Theirs(model, args, x, context)
    compile_s = time.monotonic() - start
    print(f"torch {torch.__version__}, {theirs.mode}, ready after {compile_s:.1f} s", flush=True)
    wait_for(args.wait, args.wait_seconds)
    if tensors is None:
        widths, tensors = open_checkpoint(args.model)
    load_weights(model, tensors)

    with tempfile.TemporaryDirectory() as folder:
        latents.tofile(f"{folder}/x.f32")
        context.tofile(f"{folder}/context.f32")
        ours = Ours(args, folder)
        ours.steps(3)
        theirs.steps(3)
        turns = {"ours": [], "torch": []}
        for turn in range(args.rounds):
            for name, side in (("ours", ours), ("torch", theirs)):
                times = side.steps(args.steps)
                turns[name].append(statistics.median(times))
                print(f"turn {turn + 1}: {name} {turns[name][-1]:.3f} ms", flush=True)
        mine = ours.result(f"{folder}/eps.f32", (rows, 4, height, width))
        ours.close()
    yours = theirs.step().float().cpu().numpy()
    median = {name: statistics.median(times) for name, times in turns.items()}
    figures = {
        "bench": "torch_unet", "size": args.size, "batch": args.batch, "device": ours.description,
        "torch": torch.__version__, "torch_mode": theirs.mode, "notes": theirs.notes,
        "precision": args.precision_name,
        "compile_s": round(compile_s, 1), "ours_ms": median["ours"], "torch_ms": median["torch"],
        "ratio": median["torch"] / median["ours"], "turns": turns,
    }
    write_json(args, figures)  # whatever becomes of the rest
    if theirs.cuda:
        figures["ceilings"] = ceilings(args)
    truth = judge(widths, tensors, args, x, context)
    figures.update(ours_error=relative_l2(mine, truth), torch_error=relative_l2(yours, truth),
                   error_limit=LIMITS[args.precision_name])
    print(f"ours {median['ours']:.3f} ms, torch {median['torch']:.3f} ms, ratio {figures['ratio']:.3f}; "
          f"against float32: ours {figures['ours_error']:.2g}, torch {figures['torch_error']:.2g}")
    write_json(args, figures)
    return 0 if figures["ours_error"] <= figures["error_limit"] else 1


if __name__ == "__main__":
    sys.exit(main())
