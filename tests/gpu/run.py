"""What tests/gpu/run.sh does, part by part, within a time that is divided beforehand.

Every part is a function that returns (passed, failed, skipped) and may leave figures for the
result file. A part whose time is up counts as skipped, never as passed; one that cannot start
because an earlier one failed counts as failed.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOTAL_S = 525  # of nine minutes; the rest is for the machine's own slowness
SUMMARY = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")
# (sizes, batches, type, seconds): every shape of the network once, most at the main size.
REAL_RUNS = (
    ("1024x1024", "2,8", "f16", "unet", 60), ("1024x1024", "1", "f16", "vae", 20),
    ("512x512,832x1216", "2,32", "f16", "unet", 45), ("1024x1536", "1,4", "f16", "unet", 20),
    ("1024x1024", "2", "bf16", "unet", 20),
)


class Run:
    def __init__(self, args):
        self.args = args
        self.host = args.host
        self.start = time.monotonic()
        self.build = ROOT / "build" / ("gpu-host" if args.host else "gpu")
        self.logs = self.build / "logs"
        self.counts = [0, 0, 0]
        self.result = {"parts": [], "kernels": [], "bench": {}}
        self.torch = None  # the comparison, compiling while we build
        self.env = dict(os.environ, CUDA_MODULE_LOADING="EAGER")
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

    def call(self, name, command, seconds, check_exit=True):
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
        if status not in (0, None) and check_exit:
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
    random = run.build / "random.safetensors"
    if run.host:
        random.unlink(missing_ok=True)
        random.symlink_to(run.build / "tiny.safetensors")
    elif not random.exists():
        part = run.build / "random.part"
        status, _ = run.call("random_model", [run.tool("make_checkpoint"), "--full", part], 60)
        if status != 0:
            return 0, 1, 0
        part.rename(random)
    return 1, 0, 0


def small_tests(run):
    """Every kernel at odd sizes and generic widths: the sources of tests/cuda on the chip."""
    totals = [0, 0, 0]
    tests = sorted(p for p in run.build.rglob("gpu_test_*") if p.is_file() and os.access(p, os.X_OK))
    for test in tests:
        if test.name == "gpu_test_real":
            continue
        totals = [a + b for a, b in zip(totals, counted(*run.call(test.name, [test], 40)))]
    return tuple(totals) if tests or run.host else (0, 1, 0)


def real_tests(run):
    """The real networks' operators, each with its figures in the result."""
    totals = [0, 0, 0]
    name = "cuda_test_real" if run.host else "gpu_test_real"
    runs = [None] if run.host else REAL_RUNS
    for number, each in enumerate(runs):
        command, seconds = [run.tool(name)], 300
        if each:
            sizes, batches, dtype, network, seconds = each
            command += ["--sizes", sizes, "--batches", batches, "--dtype", dtype, "--network", network,
                        "--seconds", str(seconds)]
        status, output = run.call(f"real-{number}", command, seconds + 30)
        rows = [json.loads(line) for line in output.splitlines() if line.startswith('{"op"')]
        run.result["kernels"] += rows
        totals = [a + b for a, b in zip(totals, counted(status, output))]
    return tuple(totals)


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
        rows = [("step-1024", 30, "step", "--size", "1024x1024", "--model", model),
                ("image-1024-8", 40, "image", "--size", "1024x1024", "--steps", "8", "--rounds", "5",
                 "--model", model),
                ("kernels-unet-1024", 60, "kernels", "--size", "1024x1024"),
                ("kernels-vae-1024", 40, "kernels", "--size", "1024x1024", "--network", "vae"),
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
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--build-seconds", type=int, default=240)
    run = Run(parser.parse_args())
    if run.host:
        global TOTAL_S
        TOTAL_S = 3600
    run.logs.mkdir(parents=True, exist_ok=True)
    (run.build / "torch.json").unlink(missing_ok=True)
    try:
        if run.part("device", look_at_device, run):
            start_torch(run)
            if run.part("build", build, run) and run.part("models", make_models, run):
                run.part("kernels, small", small_tests, run)
                run.part("kernels, real sizes", real_tests, run)
                run.part("golden cases", golden, run)
                run.part("selftest", selftest, run)
                run.part("bench", benches, run)
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
