"""Times one CFG step and one VAE decode of ours and of PyTorch, alternating in the same run.

usage: cpu_vs_torch.py PROGRAM CHECKPOINT [--side 64] [--rounds 3] [--threads N]

Prints seconds of every round, medians, the ratio, the agreement of the outputs and our peak memory.
Exits 1 if the outputs differ or ours is slower than PyTorch.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch

import torch_model

TIMESTEP = 601.0
# Relative L2 of the two. Against float64 a 128x128 decode is off by 4e-6 in PyTorch's float32 and by
# 6e-7 in ours; PyTorch's error grows with the picture (1.8e-5 at 512x512). The golden cases judge
# exactness, this only shows that both compute the same network.
AGREEMENT = 1e-4


class Ours:
    def __init__(self, program, checkpoint, folder, side, threads):
        self.folder = folder
        self.process = subprocess.Popen([program, checkpoint, folder, str(side), str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self.process.stdout.readline().strip()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("our side ended early")
        return answer

    def timed(self, command, result, shape):
        seconds = float(self.ask(command))
        return seconds, numpy.fromfile(f"{self.folder}/{result}", dtype=numpy.float32).reshape(shape)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def timed(function):
    start = time.monotonic()
    with torch.inference_mode():
        result = function()
    return time.monotonic() - start, result.contiguous().numpy()


def relative_l2(a, b):
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    return float(numpy.linalg.norm(a - b) / numpy.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("checkpoint")
    parser.add_argument("--side", type=int, default=64, help="latent side; 64 is 512x512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    side = args.side
    random = numpy.random.default_rng(1)
    x = random.standard_normal((4, side, side), dtype=numpy.float32)
    z = random.standard_normal((4, side, side), dtype=numpy.float32)

    unet = torch_model.UNet(torch_model.load(args.checkpoint, ("model.diffusion_model.",)))
    decoder = torch_model.Decoder(torch_model.load(
        args.checkpoint, ("first_stage_model.decoder.", "first_stage_model.post_quant_conv.")))
    width = unet["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    context = random.standard_normal((2, 77, width), dtype=numpy.float32)

    with tempfile.TemporaryDirectory() as folder:
        for name, values in (("x", x), ("z", z), ("context", context)):
            values.tofile(f"{folder}/{name}.f32")
        ours = Ours(args.program, args.checkpoint, folder, side, args.threads)
        print(f"ours: {ours.description}; torch {torch.__version__}, {args.threads} threads; "
              f"{8 * side}x{8 * side}, float32")
        jobs = {
            "step": (lambda: ours.timed("step", "eps.f32", (2, 4, side, side)),
                     lambda: timed(lambda: unet(torch.from_numpy(numpy.stack([x, x])),
                                                torch.full((2,), TIMESTEP),
                                                torch.from_numpy(context)))),
            "decode": (lambda: ours.timed("decode", "picture.f32", (1, 3, 8 * side, 8 * side)),
                       lambda: timed(lambda: decoder(torch.from_numpy(z[None])))),
        }
        failed = False
        for job, (run_ours, run_torch) in jobs.items():
            seconds = {"ours": [], "torch": []}
            for r in range(args.rounds + 1):  # the first round warms both up
                mine, a = run_ours()
                theirs, b = run_torch()
                if r > 0:
                    seconds["ours"].append(mine)
                    seconds["torch"].append(theirs)
                    print(f"{job} {r}: ours {mine:.2f} s, torch {theirs:.2f} s", flush=True)
            error = relative_l2(a, b)
            mine, theirs = (statistics.median(seconds[who]) for who in ("ours", "torch"))
            print(f"{job}: ours {mine:.2f} s, torch {theirs:.2f} s, ratio {theirs / mine:.2f}, "
                  f"relative L2 {error:.2g}")
            failed = failed or not error < AGREEMENT or mine > theirs
        peak, resident = (int(n) for n in ours.ask("memory").split())
        print(f"memory of ours: peak {peak / 1e9:.2f} GB, resident {resident / 1e9:.2f} GB")
        ours.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
