"""What tests/gpu/run.sh does, part by part, within a time that is divided beforehand.

Every part is a function that returns (passed, failed, skipped) and may leave figures for the result
file, which is written after each. A part whose time is up counts as skipped, never as passed. No part
waits for another to have passed: one whose program is missing fails and the next one starts.

Order: what is right comes first, then, on a card that nothing else uses, what is fast; what is wanted
least comes last, where the time may end.
"""
import argparse
import array
import concurrent.futures
import json
import os
import random
import re
import selectors
import subprocess
import sys
import time

import machine
from machine import ROOT, Run, end_group

TOTAL_S = 525  # of nine minutes; the rest is for the machine's own slowness
SUMMARY = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")
# (sizes, batches, type, network): every shape of the networks; repeats and all variants at batch 2, an
# image alone and in company at 8. They share the device, since it is the host that judges who is slow.
REAL_RUNS = (
    ("1024x1024", "2,8", "f16", "unet"), ("512x512,832x1216", "2,8", "f16", "unet"),
    ("1024x1536", "1,4", "f16", "unet"), ("512x512", "32", "f16", "unet"),
    ("1024x1024", "2", "bf16", "unet"), ("1024x1024", "1", "f16", "vae"), ("512x512", "2", "f16", "vae"),
)
TESTS_S = 120
# What the measurements take once the card is quiet; whatever compiles until then has to end.
MEASURING_S = 200
# The programs of tests/cuda have every kernel at small shapes.
SANITIZED = (("memcheck", "gpu_test_attention"), ("memcheck", "gpu_test_attention_f16"),
             ("memcheck", "gpu_test_matmul_conv"), ("memcheck", "gpu_test_matmul_linear"),
             ("memcheck", "gpu_test_matmul_tall"), ("memcheck", "gpu_test_norm"),
             ("memcheck", "gpu_test_point"), ("memcheck", "gpu_test_step"),
             ("racecheck", "gpu_test_attention"), ("racecheck", "gpu_test_matmul_linear"),
             ("racecheck", "gpu_test_norm"), ("synccheck", "gpu_test_attention"))


def counted(status, output):
    """The counts of a runner's last summary; a status that disagrees is a failure, and so is what one
    that ran out of time had found until then."""
    found = SUMMARY.findall(output)
    if status is None:
        return 0, int(re.search("^FAIL", output, re.M) is not None), 1
    if not found:
        return (1, 0, 0) if status == 0 else (0, 1, 0)
    passed, failed, skipped = (int(n or 0) for n in found[-1])
    return passed, max(failed, int(status != 0)), skipped


def together(run, jobs):
    """Sums of what these functions return, run at once. One that breaks counts as failed and stops no
    other; the result is written whenever one ends."""
    totals = (0, 0, 0) if jobs else (0, 1, 0)
    with concurrent.futures.ThreadPoolExecutor(max(1, len(jobs))) as pool:
        for ended in concurrent.futures.as_completed([pool.submit(job) for job in jobs]):
            try:
                counts = ended.result()
            except Exception as error:
                print(f"    {type(error).__name__}: {error}", flush=True)
                counts = 0, 1, 0
            totals = tuple(map(sum, zip(totals, counts)))
            run.save()
    return totals


# ---- Before anything runs --------------------------------------------------------------------------

def look_at_device(run):
    run.result["commit"] = run.args.commit or machine.git_commit()
    run.result["sources"] = machine.sources_hash()
    run.result["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    if run.host:
        run.result["gpu"] = "none (host build)"
        return 1, 0, 0
    found = machine.card()
    if isinstance(found, str):
        print("    " + found)
        return 0, 1, 0
    run.result.update(found)
    print("    " + ", ".join(found.values()))
    return 1, 0, 0


class Torch:
    """The comparison (tests/bench/torch_unet.py), compiling while others build and test."""

    def __init__(self, run):
        self.run, self.process, self.go = run, None, run.build / "go"
        self.log, self.figures = run.logs / "torch.log", run.build / "torch.json"
        self.figures.unlink(missing_ok=True)
        self.go.unlink(missing_ok=True)

    def command(self, *more):
        run = self.run
        return [sys.executable, "tests/bench/torch_unet.py", "--latentd", str(run.tool("latentd")),
                "--model", str(run.build / "random.safetensors"), "--json", str(self.figures), *more]

    def start(self):
        """latentd and the model are needed at the go only, so paths may still be empty."""
        run = self.run
        command = [sys.executable, "tests/bench/torch_unet.py", "--latentd", str(run.build / "latentd"),
                   "--model", str(run.build / "random.safetensors"), "--json", str(self.figures),
                   "--wait", str(self.go), "--wait-seconds", str(run.total_s)]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=run.lazy_env, stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            start_new_session=True)

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def compiling(self):
        return self.process and self.process.poll() is None and "ready after" not in self.output()

    def end(self):
        if self.process and self.process.poll() is None:
            end_group(self.process)


def start_torch(run):
    run.torch = Torch(run)
    if not run.host:
        run.torch.start()
    return 0, 0, 0


def build(run):
    if not run.host:
        arch = run.result.get("capability", "").replace(".", "")
        run.ready, facts = machine.find_ready(arch)
        run.result["built"] = "beforehand" if run.ready else "here"
        if run.ready:
            if run.result["commit"] == "unknown":
                run.result["commit"] = facts["commit"]
        else:
            print(f"    {facts}: building here")
    if not run.ready:
        archs = "80" if run.host else arch or "native"
        built, missing = machine.compile_programs(run, archs, run.args.build_seconds)
        for name in missing:
            print(f"    {name} was not built (logs/build.log)")
    else:
        built, missing = [p.name for p in run.ready.iterdir() if os.access(p, os.X_OK)], []
    link = run.build / "latentd"
    link.unlink(missing_ok=True)
    link.symlink_to(run.tool("latentd"))
    return len(built), len(missing), 0


def make_models(run):
    """The golden cases' tiny model at once, the full-size random one while kernels are tested."""
    status, _ = run.call("golden_model", [run.tool("make_golden_model"), run.build], 60)
    model = run.build / "random.safetensors"
    if run.host:
        model.unlink(missing_ok=True)
        model.symlink_to(run.build / "tiny.safetensors")
    elif not model.exists():
        with open(run.logs / "random_model.log", "w", encoding="utf-8") as log:
            run.painter = subprocess.Popen(
                [str(run.tool("make_checkpoint")), "--full", str(run.build / "random.part")],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    return int(status == 0), int(status != 0), 0


def random_model(run):
    """The full-size model, waited for. SD1.5's shapes, every matrix of spread 1 / sqrt(fan in)."""
    model = run.build / "random.safetensors"
    if not model.exists() and run.painter:
        if run.painter.wait(timeout=max(1, min(120, run.left()))) != 0:
            raise OSError("the random model was not made (logs/random_model.log)")
        (run.build / "random.part").rename(model)
    if not model.exists():
        raise OSError("there is no random model")
    return model


# ---- Is it right? ----------------------------------------------------------------------------------

def kernel_tests(run):
    """Every kernel at odd sizes and generic widths (the sources of tests/cuda on the chip), and the
    operators of the real networks, whose figures go into the result."""
    def small(test):
        return counted(*run.call(test.name, [test], TESTS_S))

    def real(number, command):
        status, output = run.call(f"real-{number}", command, TESTS_S + 30)
        run.result["kernels"] += [json.loads(line) for line in output.splitlines()
                                  if line.startswith('{"op"') and line.endswith("}")]
        return counted(status, output)

    if run.host:
        return real(0, [run.tool("cuda_test_real")])
    program = run.tool("gpu_test_real")
    jobs = [lambda t=t: small(t) for t in run.tools("gpu_test_*") if t.name != program.name]
    for number, (sizes, batches, dtype, network) in enumerate(REAL_RUNS):
        command = [program, "--sizes", sizes, "--batches", batches, "--dtype", dtype, "--network",
                   network, "--seconds", str(TESTS_S)]
        jobs.append(lambda n=number, c=command: real(n, c))
    return together(run, jobs)


def golden(run):
    """The networks' golden cases of this tree, end to end: text encoder, UNet, VAE, adapters,
    textual inversion, emphasis."""
    backend = "cpu" if run.host else "cuda"
    command = [run.tool("golden_check"), "--backend", backend, "--base", run.build, "--spec",
               "tests/golden/spec", "tests/golden/model"]
    return counted(*run.call("golden", command, 60))


def selftest(run):
    """By name: what is not there fails."""
    backend = "cpu" if run.host else "cuda"
    return counted(*run.call("selftest", [run.tool("latentd"), "selftest", "--backend", backend], 30))


# compute-sanitizer's own lines: what it finds, and why it does not look.
FOUND = re.compile(r"^=+ (Invalid|Error: Race|Barrier error)", re.M)
REFUSED = re.compile(r"^=+ .*(Device not supported|No attachable process)", re.M)


def sanitized(status, output):
    """The counts of one of its runs."""
    if status is None or REFUSED.search(output):
        return 0, int(FOUND.search(output) is not None), 1
    return (1, 0, 0) if status == 0 else (0, 1, 0)


def sanitize(run):
    """compute-sanitizer over small shapes of every kernel."""
    tool = machine.find_tool("compute-sanitizer")
    if run.host or not tool:
        print("    needs a GPU" if run.host else "    compute-sanitizer is not on this machine")
        return 0, 0, len(SANITIZED)

    def one(checker, program):
        status, output = run.call(f"{checker}-{program}",
                                  [tool, "--tool", checker, "--error-exitcode", "9", run.tool(program)], 75,
                                  run.lazy_env)
        if REFUSED.search(output):
            print(f"    {checker} refuses this machine")
        return sanitized(status, output)

    return together(run, [lambda c=c, p=p: one(c, p) for c, p in SANITIZED])


class Pipe:
    """`latentd bench step --pipe` on given inputs; an answer that does not come ends it."""

    def __init__(self, run, name, size, latents, contexts, *more):
        self.folder = run.build / "inputs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "x.f32").write_bytes(b"".join(latents))
        (self.folder / "context.f32").write_bytes(b"".join(contexts))
        self.image_bytes = 2 * len(latents[0])
        self.run = run
        command = [run.tool("latentd"), "bench", "step", "--pipe", "--size", size, "--batch",
                   str(len(latents)), "--model", random_model(run), "--inputs", self.folder,
                   "--backend", "cpu" if run.host else "cuda", *more]
        with open(run.logs / f"pipe-{name}.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, env=run.env,
                                            start_new_session=True)
        if not self.answer().startswith(b"ready"):
            raise OSError("bench step --pipe did not start")

    def answer(self):
        line, until = b"", time.monotonic() + min(60, max(1, self.run.left()))
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(until - time.monotonic()):
                    end_group(self.process)
                    raise OSError("bench step --pipe does not answer")
                piece = os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    raise OSError("bench step --pipe ended early")
                line += piece
        return line

    def step(self):
        """One evaluation: the bytes of each image's two rows."""
        result = self.folder / "eps.f32"
        for command in ("step 1", f"eps {result}"):
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
            self.answer()
        data = result.read_bytes()
        return [data[i:i + self.image_bytes] for i in range(0, len(data), self.image_bytes)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            end_group(self.process)
        self.process.stdout.close()


def normals(seed, count):
    """Standard normals as float32 bytes, with nothing but the standard library."""
    generator = random.Random(seed)
    return array.array("f", (generator.gauss(0, 1) for _ in range(count))).tobytes()


def equal_bytes(run):
    """A whole guided step: twenty runs are equal, each image of a batch of eight equals itself alone,
    and so does one whose weights are streamed, walked, recorded and replayed."""
    size, side, width, repeats = ("64x64", 8, 32, 3) if run.host else ("1024x1024", 128, 768, 20)
    images = 8
    latents = [normals(i, 4 * side * side) for i in range(images)]
    contexts = [normals(100 + i, 77 * width) for i in range(2 * images)]
    passed = failed = 0
    with Pipe(run, "batch", size, latents, contexts) as batch:
        in_company = batch.step()
    for image in (0, 5, images - 1):
        with Pipe(run, "alone", size, latents[image:image + 1],
                  contexts[2 * image:2 * image + 2]) as alone:
            first = alone.step()[0]
            ok = first == in_company[image] and any(first)
            passed, failed = passed + ok, failed + (not ok)
            if not ok:
                print(f"    image {image} alone differs from itself in a batch of {images}")
            if image == 0:
                changed = sum(alone.step()[0] != first for _ in range(repeats - 1))
                passed, failed = passed + (not changed), failed + bool(changed)
                if changed:
                    print(f"    {changed} of {repeats - 1} repeated steps gave other bytes")
                with Pipe(run, "streamed", size, latents[:1], contexts[:2], "--stream") as streamed:
                    changed = sum(streamed.step()[0] != first for _ in range(5))
                passed, failed = passed + (not changed), failed + bool(changed)
                if changed:
                    print(f"    {changed} of 5 steps with streamed weights gave other bytes")
    return passed, failed, 0


# ---- How fast is it? -------------------------------------------------------------------------------

def wait_until_quiet(run):
    """Nothing is measured while PyTorch compiles on the same card. What has not compiled when the
    measurements must begin is ended; the comparison then takes PyTorch without compiling."""
    began = time.monotonic()
    while run.torch.compiling() and run.left() > MEASURING_S:
        time.sleep(0.5)
    run.result["waited_for_torch_s"] = round(time.monotonic() - began, 1)
    if run.torch.compiling():
        print("    torch.compile is not ready and is ended")
        run.torch.end()
    return 0, 0, 0


def bench(run, name, seconds, *options, log=None):
    backend = "cpu" if run.host else "cuda"
    with machine.Clocks() as clocks:
        status, output = run.call(log or f"bench-{name}", [run.tool("latentd"), "bench", *options,
                                                           "--json", "--backend", backend], seconds)
    if status is None:
        return 0, 0, 1
    documents = [line for line in output.splitlines() if line.startswith("{")]
    if status != 0 or not documents:
        return 0, 1, 0
    found = json.loads(documents[-1])
    run.result["bench"][name] = {**found, "clocks": clocks.summary()}
    others = [row["in_flight"] for row in found.get("rows", []) if row.get("same_bits") is False]
    if others:
        print(f"    {name}: a picture has other bits among {others} than alone")
    if found.get("nonfinite"):
        print(f"    {name}: the picture holds {found['nonfinite']} values that are no numbers")
    return (0, 1, 0) if others or found.get("nonfinite") else (1, 0, 0)


def bench_all(run, rows):
    totals = [0, 0, 0]
    for name, seconds, *options in rows:
        totals = [a + b for a, b in zip(totals, bench(run, name, seconds, *options))]
        if "--tune" in options and name not in run.result["bench"]:
            # Choosing took too long: with the kernels chosen until then.
            options.remove("--tune")
            again = bench(run, name, 30, *options, log=f"bench-{name}-again")
            totals = [a + b for a, b in zip(totals, again)]
        run.save()
    return tuple(totals)


def benches(run):
    model = random_model(run)
    if run.host:
        return bench_all(run, (
            ("kernels", 120, "kernels", "--size", "64x64", "--rounds", "1", "--model", model),
            ("step", 60, "step", "--size", "64x64", "--rounds", "2", "--model", model),
            ("image", 60, "image", "--size", "64x64", "--steps", "2", "--rounds", "1", "--model", model)))
    return bench_all(run, (
        ("step-1024-untuned", 30, "step", "--size", "1024x1024", "--model", model),
        ("step-1024", 110, "step", "--size", "1024x1024", "--model", model, "--tune"),
        ("step-1024-streamed", 30, "step", "--size", "1024x1024", "--model", model, "--stream"),
        ("image-1024-8", 30, "image", "--size", "1024x1024", "--steps", "8", "--rounds", "5", "--model",
         model),
        ("kernels-unet-1024", 40, "kernels", "--size", "1024x1024"),
        ("kernels-vae-1024", 30, "kernels", "--size", "1024x1024", "--network", "vae")))


def more_benches(run):
    model = random_model(run)
    if run.host:
        return bench_all(run, (("serve", 60, "serve", "--size", "64x64", "--steps", "2", "--rounds", "2",
                                "--batch", "2", "--seconds", "60", "--model", model),))
    return bench_all(run, (
        ("step-512", 30, "step", "--size", "512x512", "--model", model),
        ("step-832x1216", 30, "step", "--size", "832x1216", "--model", model),
        ("serve-1024-8", 60, "serve", "--size", "1024x1024", "--steps", "8", "--rounds", "4", "--seconds",
         "50", "--model", model)))


def compare_with_torch(run):
    model = random_model(run)
    if run.host:
        status, output = run.call("torch", run.torch.command("--device", "cpu", "--smoke", "--size",
                                                             "64x64"), 200)
    elif run.torch.process and run.torch.process.poll() is None:
        run.torch.go.touch()
        try:
            status = run.torch.process.wait(timeout=max(1, min(90, run.left())))
        except subprocess.TimeoutExpired:
            run.torch.end()
            status = None
        output = run.torch.output()
    else:  # it could not compile in time, or at all: without it there is still a comparison
        status, output = run.call("torch-eager", run.torch.command("--mode", "eager"), 90)
    print("\n".join("    " + line for line in output.splitlines()[-2:]))
    if re.search(r"No module named '(torch|numpy)'", output):
        return 0, 0, 1
    if run.torch.figures.exists():
        run.result["bench"]["torch_unet"] = json.loads(run.torch.figures.read_text())
    del model
    return (0, 0, 1) if status is None else (1, 0, 0) if status == 0 else (0, 1, 0)


# ---- Main ------------------------------------------------------------------------------------------

PARTS = (("device", look_at_device), ("PyTorch begins", start_torch), ("build", build),
         ("models", make_models), ("kernels", kernel_tests), ("golden cases", golden),
         ("selftest", selftest), ("equal bytes", equal_bytes), ("sanitizer", sanitize),
         ("quiet", wait_until_quiet), ("bench", benches), ("step against PyTorch", compare_with_torch),
         ("more bench", more_benches))


def in_flight(found, count):
    rows = found.get("serve-1024-8", {}).get("rows", [])
    return next((row["pictures_per_second"] for row in rows if row["in_flight"] == count), None)


def figures(run):
    """What a reader wants first."""
    found = run.result["bench"]
    unet = found.get("torch_unet", {})
    rows = (("CFG step 1024x1024", found.get("step-1024", {}).get("step", {}).get("median_ms"), "ms"),
            ("8-step picture 1024x1024", found.get("image-1024-8", {}).get("total", {}).get("median_ms"),
             "ms"),
            ("pictures/s, 8 steps, 16 in flight", in_flight(found, 16), "1/s"),
            (f"PyTorch's step ({unet.get('torch_mode')})", unet.get("torch_ms"), "ms"),
            ("PyTorch / ours", unet.get("ratio"), ""),
            ("PyTorch's matrix product", unet.get("ceilings", {}).get("matrix_tflops"), "TFLOP/s"),
            ("PyTorch's copy", unet.get("ceilings", {}).get("copy_gbps"), "GB/s"))
    for name, value, unit in rows:
        if value is not None:
            print(f"{name:<36} {value:10.3f} {unit}")


def prepare(run, arch):
    """Compile for a card that is elsewhere."""
    run.prepare_folders()
    built, missing = machine.compile_programs(run, arch, 36000)
    for name in missing:
        print(f"FAIL {name} was not built ({run.logs}/build.log)")
    if not missing:
        size = machine.keep_ready(run, arch, built)
        print(f"{machine.packed_ready().relative_to(ROOT)}: {len(built)} programs for sm_{arch}, "
              f"{size / 2**20:.1f} MiB")
    print(f"{len(built)} passed, {len(missing)} failed, 0 skipped")
    return int(bool(missing))


def read_arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="folder for result.json and logs.tar.gz, or a file FILE.json")
    parser.add_argument("--host", action="store_true", help="try the script without a GPU")
    parser.add_argument("--prepare", metavar="ARCH", help="only compile, for a card such as 90, here")
    parser.add_argument("--build", help="folder to build in")
    parser.add_argument("--commit", help="of this tree, where it lies without its history")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--build-seconds", type=int, default=240)
    args = parser.parse_args(words)
    if args.prepare and not re.fullmatch(r"\d+[af]?", args.prepare):
        parser.error("--prepare takes a compute capability without the dot, such as 90")
    return args


def main(words=None, parts=PARTS):
    args = read_arguments(words)
    run = Run(args.host, args.build, args.out, 36000 if args.host or args.prepare else TOTAL_S)
    run.args, run.jobs, run.torch, run.painter = args, args.jobs, None, None
    if args.prepare:
        return prepare(run, args.prepare)
    run.prepare_folders()
    try:
        for name, function in parts:
            if not run.part(name, function) and function is look_at_device:
                break  # without a card there is nothing to do
    finally:
        if run.torch:
            run.torch.end()
        if run.painter and run.painter.poll() is None:
            end_group(run.painter)
        run.save()
    figures(run)
    print(f"results in {run.result_file}")
    print(f"{run.counts[0]} passed, {run.counts[1]} failed, {run.counts[2]} skipped")
    return 1 if run.counts[1] or not run.counts[0] else 0


if __name__ == "__main__":
    sys.exit(main())
