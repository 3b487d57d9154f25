"""What tests/gpu/run.sh does, part by part, within a time that is divided beforehand.

Every part is a function that returns (passed, failed, skipped) and may leave figures for the
result file. A part whose time is up counts as skipped, never as passed; one that cannot start
because an earlier one failed counts as failed.
"""
import argparse
import array
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOTAL_S = 525  # of nine minutes; the rest is for the machine's own slowness
SUMMARY = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")
# (sizes, batches, type, network): every shape of the networks; repeats and all variants at batch 2, an
# image alone and in company at 8. They share the device, since it is the host that judges who is slow.
REAL_RUNS = (
    ("1024x1024", "2,8", "f16", "unet"), ("512x512,832x1216", "2,8", "f16", "unet"),
    ("1024x1536", "1,4", "f16", "unet"), ("512x512", "32", "f16", "unet"),
    ("1024x1024", "2", "bf16", "unet"), ("1024x1024", "1", "f16", "vae"), ("512x512", "2", "f16", "vae"),
)
TESTS_S = 130

class Run:
    def __init__(self, args):
        self.args = args
        self.host = args.host
        self.start = time.monotonic()
        self.build = pathlib.Path(args.build or ROOT / "build" / ("gpu-host" if args.host else "gpu"))
        self.logs = self.build / "logs"
        self.counts = [0, 0, 0]
        self.result = {"parts": [], "kernels": [], "bench": {}}
        self.torch = None  # the comparison, compiling while we build
        # Kernels are chosen by measuring in this run, by nothing that an earlier one left.
        self.tuning = self.build / "tuning"
        self.env = dict(os.environ, CUDA_MODULE_LOADING="EAGER", LATENTD_TUNING=str(self.tuning))
        self.add_library_folders()

    def add_library_folders(self):
        """cuBLASLt and cuDNN often lie inside Python packages."""
        found = []
        for folder in map(pathlib.Path, sys.path):
            found += sorted(str(p) for p in folder.glob("nvidia/*/lib") if p.is_dir())
        if found:
            before = self.env.get("LD_LIBRARY_PATH")
            self.env["LD_LIBRARY_PATH"] = ":".join(found + ([before] if before else []))

    def left(self):
        return TOTAL_S - (time.monotonic() - self.start)

    def call(self, name, command, seconds):
        """(exit status, output); None: the time was up. Output goes to a log as well."""
        seconds = max(1, min(seconds, self.left()))
        log = self.logs / f"{name}.log"
        with open(log, "w", encoding="utf-8", errors="replace") as file:
            process = subprocess.Popen([str(c) for c in command], cwd=ROOT, env=self.env, stdout=file,
                                       stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                end_group(process)
                status = None
        output = log.read_text(encoding="utf-8", errors="replace")
        if status not in (0, None):
            print("\n".join(output.splitlines()[-15:]))
        return status, output

    def part(self, name, function, *rest):
        began = time.monotonic()
        try:
            passed, failed, skipped = function(*rest)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            print(f"    {type(error).__name__}: {error}")
            passed, failed, skipped = 0, 1, 0
        seconds = time.monotonic() - began
        self.counts = [a + b for a, b in zip(self.counts, (passed, failed, skipped))]
        self.result["parts"].append({"name": name, "passed": passed, "failed": failed,
                                     "skipped": skipped, "seconds": round(seconds, 1)})
        print(f"{name:<28} {passed:5d} passed {failed:3d} failed {skipped:3d} skipped {seconds:6.1f} s",
              flush=True)
        return failed == 0

    def tool(self, name):
        """A program of the build, wherever its folder is."""
        found = [p for p in self.build.rglob(name) if p.is_file() and os.access(p, os.X_OK)]
        if not found:
            raise OSError(f"{name} was not built")
        return found[0]


def end_group(process):
    """A process that was started with a session of its own, and what it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def counted(status, output):
    """The counts of a runner's last summary; a status that disagrees is a failure."""
    found = SUMMARY.findall(output)
    if status is None:
        return 0, 0, 1
    if not found:
        return (1, 0, 0) if status == 0 else (0, 1, 0)
    passed, failed, skipped = (int(n or 0) for n in found[-1])
    return passed, max(failed, int(status != 0)), skipped


# ---- Parts -----------------------------------------------------------------------------------------

def git_commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def look_at_device(run):
    smi = shutil.which("nvidia-smi")
    run.result["commit"] = git_commit()
    run.result["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    if run.host:
        run.result["gpu"] = "none (host build)"
        return 1, 0, 0
    if not smi:
        print("    nvidia-smi is not on this machine: a GPU and its driver are needed (--host tries the "
              "script without)")
        return 0, 1, 0
    fields = "name,driver_version,memory.total,clocks.max.sm"
    done = subprocess.run([smi, f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        print("    nvidia-smi sees no GPU: " + (done.stdout + done.stderr).strip()[:200])
        return 0, 1, 0
    values = [v.strip() for v in done.stdout.splitlines()[0].split(",")]
    run.result["gpu"], run.result["driver"], run.result["memory"], run.result["clock_max"] = values
    print("    " + ", ".join(values))
    return 1, 0, 0


def start_torch(run):
    """The comparison begins to compile now, on a device that nobody uses yet."""
    command = [sys.executable, "tests/bench/torch_unet.py", "--latentd", str(run.build / "latentd"),
               "--model", str(run.build / "random.safetensors"), "--json", str(run.build / "torch.json")]
    if run.host:
        command += ["--device", "cpu", "--smoke", "--size", "64x64"]
        run.torch_command = command
        return
    go = run.build / "go"
    go.unlink(missing_ok=True)
    command += ["--wait", str(go), "--wait-seconds", str(TOTAL_S)]
    log = open(run.logs / "torch.log", "w", encoding="utf-8")
    run.torch = subprocess.Popen(command, cwd=ROOT, env=run.env, stdout=log, stderr=subprocess.STDOUT,
                                 start_new_session=True)


def build(run):
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    archs = "80" if run.host else "native"
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DLATENTD_MINIMAL=ON", f"-DLATENTD_CUDA_ARCHS={archs}",
               f"-DLATENTD_CUDA={'OFF' if run.host else 'ON'}"]
    # Nothing but the compilers is taken from the machine, even where more is installed.
    run.env["PKG_CONFIG_LIBDIR"] = "/nonexistent"
    status, _ = run.call("cmake", ["cmake", "-S", ".", "-B", run.build, *generator, *options], 60)
    if status != 0:
        return 0, 1, 0
    jobs = str(run.args.jobs or os.cpu_count() or 1)
    tests = "cuda_test_real" if run.host else "gpu_tests"
    status, _ = run.call("build", ["cmake", "--build", run.build, "-j", jobs, "--target", "latentd",
                                   "golden_check", "make_golden_model", "make_checkpoint", tests],
                         run.args.build_seconds)
    if status != 0:
        return 0, 1, 0
    link = run.build / "latentd"
    link.unlink(missing_ok=True)
    link.symlink_to(run.build / "server" / "latentd")
    return 1, 0, 0


def make_models(run):
    status, _ = run.call("golden_model", [run.tool("make_golden_model"), run.build], 60)
    if status != 0:
        return 0, 1, 0
    model = run.build / "random.safetensors"
    if run.host:
        model.unlink(missing_ok=True)
        model.symlink_to(run.build / "tiny.safetensors")
    elif not model.exists():
        part = run.build / "random.part"
        status, _ = run.call("random_model", [run.tool("make_checkpoint"), "--full", part], 60)
        if status != 0:
            return 0, 1, 0
        part.rename(model)
    return 1, 0, 0


def together(jobs):
    """Sums of what these functions return, run at once."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(jobs))) as pool:
        results = list(pool.map(lambda job: job(), jobs))
    return tuple(map(sum, zip(*results))) if results else (0, 1, 0)


def kernel_tests(run):
    """Every kernel at odd sizes and generic widths (the sources of tests/cuda on the chip), and the
    operators of the real networks, whose figures go into the result."""
    def small(test):
        return counted(*run.call(test.name, [test], TESTS_S))

    def real(number, command):
        status, output = run.call(f"real-{number}", command, TESTS_S + 30)
        run.result["kernels"] += [json.loads(line) for line in output.splitlines()
                                  if line.startswith('{"op"')]
        return counted(status, output)

    if run.host:
        return real(0, [run.tool("cuda_test_real")])
    program = run.tool("gpu_test_real")
    tests = sorted(p for p in run.build.rglob("gpu_test_*") if p.is_file() and os.access(p, os.X_OK))
    jobs = [lambda t=t: small(t) for t in tests if t.name != program.name]
    for number, (sizes, batches, dtype, network) in enumerate(REAL_RUNS):
        command = [program, "--sizes", sizes, "--batches", batches, "--dtype", dtype, "--network",
                   network, "--seconds", str(TESTS_S)]
        jobs.append(lambda n=number, c=command: real(n, c))
    return together(jobs)


class Pipe:
    """`latentd bench step --pipe` on given inputs."""

    def __init__(self, run, name, size, latents, contexts):
        self.folder = run.build / "inputs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "x.f32").write_bytes(b"".join(latents))
        (self.folder / "context.f32").write_bytes(b"".join(contexts))
        self.image_bytes = 2 * len(latents[0])
        command = [run.build / "latentd", "bench", "step", "--pipe", "--size", size, "--batch",
                   str(len(latents)), "--model", run.build / "random.safetensors", "--inputs", self.folder,
                   "--backend", "cpu" if run.host else "cuda"]
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=run.env,
                                        start_new_session=True)
        if not self.process.stdout.readline().startswith("ready"):
            raise OSError("bench step --pipe did not start")

    def step(self):
        """One evaluation: the bytes of each image's two rows."""
        result = self.folder / "eps.f32"
        for command in ("step 1", f"eps {result}"):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            if not self.process.stdout.readline():
                raise OSError("bench step --pipe ended early")
        data = result.read_bytes()
        return [data[i:i + self.image_bytes] for i in range(0, len(data), self.image_bytes)]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            end_group(self.process)


def normals(seed, count):
    """Standard normals as float32 bytes, with nothing but the standard library."""
    generator = random.Random(seed)
    return array.array("f", (generator.gauss(0, 1) for _ in range(count))).tobytes()


def equal_bytes(run):
    """A whole guided step: twenty runs are equal, and each image of a batch of eight equals itself
    alone."""
    size, side, width, repeats = ("64x64", 8, 32, 3) if run.host else ("1024x1024", 128, 768, 20)
    images = 8
    latents = [normals(i, 4 * side * side) for i in range(images)]
    contexts = [normals(100 + i, 77 * width) for i in range(2 * images)]
    passed = failed = 0
    batch = Pipe(run, "batch", size, latents, contexts)
    together_bytes = batch.step()
    batch.close()
    for image in (0, 5, images - 1):
        alone = Pipe(run, "alone", size, latents[image:image + 1], contexts[2 * image:2 * image + 2])
        first = alone.step()[0]
        ok = first == together_bytes[image] and any(first)
        passed, failed = passed + ok, failed + (not ok)
        if not ok:
            print(f"    image {image} alone differs from itself in a batch of {images}")
        if image == 0:
            changed = sum(alone.step()[0] != first for _ in range(repeats - 1))
            passed, failed = passed + (not changed), failed + bool(changed)
            if changed:
                print(f"    {changed} of {repeats - 1} repeated steps gave other bytes")
        alone.close()
    return passed, failed, 0


def golden(run):
    backend = "cpu" if run.host else "cuda"
    command = [run.tool("golden_check"), "--backend", backend, "--base", run.build, "--spec",
               "tests/golden/spec", "tests/golden/model"]
    return counted(*run.call("golden", command, 60))


def selftest(run):
    return counted(*run.call("selftest", [run.build / "latentd", "selftest"], 30))


def sanitize(run):
    """One small network through compute-sanitizer: one small shape of every kernel."""
    tool = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
    if not tool or run.host:
        print("    compute-sanitizer is not here" if not run.host else "    needs a GPU")
        return 0, 0, 2
    totals = [0, 0, 0]
    for checker, seconds in (("memcheck", 45), ("racecheck", 45)):
        status, output = run.call(checker, [tool, "--tool", checker, "--error-exitcode", "9",
                                            run.tool("gpu_test_real"), "--tiny", "--sizes", "64x64",
                                            "--batches", "2"], seconds)
        if "Device not supported" in output or "not supported on" in output:
            print(f"    {checker} refuses this machine")
            status = None
        one = (0, 0, 1) if status is None else (1, 0, 0) if status == 0 else (0, 1, 0)
        totals = [a + b for a, b in zip(totals, one)]
    return tuple(totals)


def bench(run, name, seconds, *options):
    backend = "cpu" if run.host else "cuda"
    status, output = run.call(f"bench-{name}", [run.build / "latentd", "bench", *options, "--json",
                                                "--backend", backend], seconds)
    if status is None:
        return 0, 0, 1
    documents = [line for line in output.splitlines() if line.startswith("{")]
    if status != 0 or not documents:
        return 0, 1, 0
    run.result["bench"][name] = json.loads(documents[-1])
    return 1, 0, 0


def benches(run):
    model = run.build / "random.safetensors"
    if run.host:
        rows = [("kernels", 120, "kernels", "--size", "64x64", "--rounds", "1", "--model", model),
                ("step", 60, "step", "--size", "64x64", "--rounds", "2", "--model", model),
                ("image", 60, "image", "--size", "64x64", "--steps", "2", "--rounds", "1", "--model", model)]
    else:
        rows = [("step-1024-untuned", 30, "step", "--size", "1024x1024", "--model", model),
                ("step-1024", 75, "step", "--size", "1024x1024", "--model", model, "--tune"),
                ("image-1024-8", 40, "image", "--size", "1024x1024", "--steps", "8", "--rounds", "5",
                 "--model", model),
                ("kernels-unet-1024", 50, "kernels", "--size", "1024x1024"),
                ("kernels-vae-1024", 30, "kernels", "--size", "1024x1024", "--network", "vae"),
                ("step-512", 20, "step", "--size", "512x512", "--model", model),
                ("step-832x1216", 25, "step", "--size", "832x1216", "--model", model)]
    totals = [0, 0, 0]
    for name, seconds, *options in rows:
        totals = [a + b for a, b in zip(totals, bench(run, name, seconds, *options))]
    return tuple(totals)


def compare_with_torch(run):
    if run.host:
        if subprocess.run([sys.executable, "-c", "import torch, numpy"], capture_output=True,
                          check=False).returncode != 0:
            print("    PyTorch is not on this machine")
            return 0, 0, 1
        status, _ = run.call("torch", run.torch_command, 200)
    else:
        (run.build / "go").touch()
        try:
            status = run.torch.wait(timeout=max(1, run.left()))
        except subprocess.TimeoutExpired:
            end_group(run.torch)
            status = None
        output = (run.logs / "torch.log").read_text(errors="replace")
        print("\n".join("    " + line for line in output.splitlines()[-2:]))
        if "No module named" in output:
            return 0, 0, 1
    figures = run.build / "torch.json"
    if figures.exists():
        run.result["bench"]["torch_unet"] = json.loads(figures.read_text())
    return (0, 0, 1) if status is None else (1, 0, 0) if status == 0 else (0, 1, 0)


# ---- Main ------------------------------------------------------------------------------------------

def figures(run):
    """What a reader wants first."""
    found = run.result["bench"]
    unet = found.get("torch_unet", {})
    rows = (("CFG step 1024x1024", found.get("step-1024", {}).get("step", {}).get("median_ms"), "ms"),
            ("8-step picture 1024x1024", found.get("image-1024-8", {}).get("total", {}).get("median_ms"),
             "ms"),
            ("torch.compile's step", unet.get("torch_ms"), "ms"), ("torch / ours", unet.get("ratio"), ""))
    for name, value, unit in rows:
        if value is not None:
            print(f"{name:<28} {value:10.3f} {unit}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", help="result file")
    parser.add_argument("--host", action="store_true")
    parser.add_argument("--build", help="folder to build in")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--build-seconds", type=int, default=240)
    run = Run(parser.parse_args())
    if run.host:
        global TOTAL_S
        TOTAL_S = 3600
    run.logs.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run.tuning, ignore_errors=True)
    run.tuning.mkdir()
    (run.build / "torch.json").unlink(missing_ok=True)
    try:
        if run.part("device", look_at_device, run):
            start_torch(run)
            if run.part("build", build, run) and run.part("models", make_models, run):
                run.part("kernels", kernel_tests, run)
                run.part("golden cases", golden, run)
                run.part("selftest", selftest, run)
                run.part("bench", benches, run)
                run.part("equal bytes", equal_bytes, run)
                run.part("step against PyTorch", compare_with_torch, run)
                run.part("sanitizer", sanitize, run)
    finally:
        if run.torch and run.torch.poll() is None:
            end_group(run.torch)
    run.result["seconds"] = round(time.monotonic() - run.start, 1)
    out = pathlib.Path(run.args.out) if run.args.out else run.build / "result.json"
    out.write_text(json.dumps(run.result, indent=1) + "\n")
    figures(run)
    print(f"results in {out}")
    print(f"{run.counts[0]} passed, {run.counts[1]} failed, {run.counts[2]} skipped")
    return 1 if run.counts[1] or not run.counts[0] else 0


if __name__ == "__main__":
    sys.exit(main())
