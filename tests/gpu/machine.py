"""The machine that tests/gpu/run.sh works on: its time, its processes and their logs, its card, and
the programs built for it, here or beforehand on another machine.
"""
import ctypes
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY = ROOT / "build" / "gpu-ready"  # programs built beforehand (--prepare), packed as gpu-ready.tar.xz
TOOLKIT = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")
# What the programs are made of.
SOURCES = ("CMakeLists.txt", "cmake", "kernels", "runtime", "server", "tests/cuda", "tests/gpu",
           "tests/golden_check", "tests/tools")
SOURCE_NAMES = (".c", ".h", ".cu", ".cuh", ".def", ".cmake", "CMakeLists.txt")
GPU_FIELDS = {"gpu": "name", "driver": "driver_version", "memory": "memory.total",
              "clock_max": "clocks.max.sm", "capability": "compute_cap"}


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


def find_tool(name):
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *TOOLKIT)))


def sources_hash():
    """Of every file that goes into the programs, wherever the tree lies."""
    digest = hashlib.sha256()
    for place in SOURCES:
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.name.endswith(SOURCE_NAMES):
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def git_commit():
    """Of the checkout; a tree that was copied without its history has none, nor has one without git."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=ROOT,
                              capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def card():
    """What nvidia-smi says of the first GPU, else what the driver says, or a sentence why neither says
    anything."""
    found = ask_smi()
    return (ask_driver() or found) if isinstance(found, str) else found


def ask_driver(library="libcuda.so.1"):
    """The same of the CUDA driver itself, for machines where nvidia-smi is missing or refuses; None."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return None
    count, device, version, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(96)
    # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR are 75 and 76 (CUDA Driver API).
    calls = (lambda: cuda.cuInit(0), lambda: cuda.cuDeviceGetCount(ctypes.byref(count)),
             lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
             lambda: cuda.cuDriverGetVersion(ctypes.byref(version)),
             lambda: cuda.cuDeviceGetName(name, len(name), device),
             lambda: cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
             lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
             lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device))
    if any(call() != 0 for call in calls) or count.value < 1:
        return None
    return {"gpu": name.value.decode(errors="replace"),
            "driver": f"CUDA {version.value // 1000}.{version.value % 1000 // 10}",
            "memory": f"{memory.value >> 20} MiB", "clock_max": "unknown",
            "capability": f"{major.value}.{minor.value}"}


def ask_smi():
    smi = find_tool("nvidia-smi")
    if not smi:
        return "nvidia-smi is not on this machine: a GPU and its driver are needed (--host tries the " \
               "script without)"
    try:
        done = subprocess.run([smi, "--query-gpu=" + ",".join(GPU_FIELDS.values()),
                               "--format=csv,noheader"],
                              capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer: {error}"
    if done.returncode != 0 or not done.stdout.strip():
        return "nvidia-smi sees no GPU: " + (done.stdout + done.stderr).strip()[:200]
    return dict(zip(GPU_FIELDS, (v.strip() for v in done.stdout.splitlines()[0].split(","))))


class Clocks:
    """The card's clock, power and temperature while something runs; nothing where no card is."""

    FIELDS = ("clocks.sm", "power.draw", "temperature.gpu")

    def __init__(self):
        self.columns = {name: [] for name in ("sm_mhz", "watts", "celsius")}
        self.process = self.reader = None

    def __enter__(self):
        smi = find_tool("nvidia-smi")
        if smi:
            # Into a pipe it might keep its lines back until it is ended, which would lose them.
            lines = [find_tool("stdbuf"), "-oL"] if find_tool("stdbuf") else []
            self.process = subprocess.Popen(
                [*lines, smi, "--query-gpu=" + ",".join(self.FIELDS), "--format=csv,noheader,nounits",
                 "-lms", "500"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True)
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            for name, word in zip(self.columns, line.split(",")):
                try:
                    self.columns[name].append(float(word))
                except ValueError:  # a field that this card does not tell
                    continue

    def __exit__(self, *_):
        if self.process:
            end_group(self.process)
            self.reader.join(5)

    def summary(self):
        return {name: {"min": min(c), "median": statistics.median(c), "max": max(c)}
                for name, c in self.columns.items() if c}


class Run:
    """One run: what is left of its time, its counts, its result."""

    def __init__(self, host=False, build=None, out=None, total_s=525):
        self.host = host
        self.total_s = total_s
        self.start = time.monotonic()
        self.build = pathlib.Path(build or ROOT / "build" / ("gpu-host" if host else "gpu")).resolve()
        self.out = pathlib.Path(out).resolve() if out else self.build
        self.result_file = self.out if self.out.suffix == ".json" else self.out / "result.json"
        self.logs = self.build / "logs"
        self.ready = None  # folder of programs built beforehand, if they fit this machine
        self.counts = [0, 0, 0]
        self.result = {"parts": [], "kernels": [], "bench": {}, "cut_off": []}
        # Kernels are chosen by measuring in this run, by nothing that an earlier one left.
        self.tuning = self.build / "tuning"
        self.env = dict(os.environ, CUDA_MODULE_LOADING="EAGER", LATENTD_TUNING=str(self.tuning))
        self.add_library_folders()
        # Where loading every kernel would take longer than what is run: PyTorch, compute-sanitizer.
        self.lazy_env = {name: value for name, value in self.env.items() if name != "CUDA_MODULE_LOADING"}

    def prepare_folders(self):
        shutil.rmtree(self.logs, ignore_errors=True)
        shutil.rmtree(self.tuning, ignore_errors=True)
        for folder in (self.logs, self.tuning, self.result_file.parent):
            folder.mkdir(parents=True, exist_ok=True)

    def add_library_folders(self):
        """cuBLASLt and cuDNN often lie inside Python packages."""
        found = []
        for folder in map(pathlib.Path, sys.path):
            found += sorted(str(p) for p in folder.glob("nvidia/*/lib") if p.is_dir())
        if found:
            before = self.env.get("LD_LIBRARY_PATH")
            self.env["LD_LIBRARY_PATH"] = ":".join(found + ([before] if before else []))

    def left(self):
        return self.total_s - (time.monotonic() - self.start)

    def call(self, name, command, seconds, env=None):
        """(exit status, output); None: the time was up. Output goes to a log as well. `env`: other than
        this run's."""
        seconds = max(1, min(seconds, self.left()))
        log = self.logs / f"{name}.log"
        with open(log, "w", encoding="utf-8", errors="replace") as file:
            process = subprocess.Popen([str(c) for c in command], cwd=ROOT, env=env or self.env,
                                       stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       start_new_session=True)
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                end_group(process)
                status = None
        output = log.read_text(encoding="utf-8", errors="replace")
        if status is None:
            last = (output.splitlines() or ["nothing"])[-1]
            print(f"    {name}: ended after {seconds:.0f} s; it last said: {last[:160]}", flush=True)
            self.result["cut_off"].append(name)
        if status not in (0, None):
            print("\n".join(f"    {name}: {line}" for line in output.splitlines()[-8:]), flush=True)
        return status, output

    def part(self, name, function, *rest):
        """Run it, count it, keep what is known so far: whatever ends this run later, that stays."""
        began = time.monotonic()
        try:
            if self.left() < 1:
                print("    the time is up")
                passed, failed, skipped = 0, 0, 1
            else:
                passed, failed, skipped = function(self, *rest)
        except Exception as error:  # whatever it is, the next part begins
            print(f"    {type(error).__name__}: {error}")
            passed, failed, skipped = 0, 1, 0
        seconds = time.monotonic() - began
        self.counts = [a + b for a, b in zip(self.counts, (passed, failed, skipped))]
        self.result["parts"].append({"name": name, "passed": passed, "failed": failed,
                                     "skipped": skipped, "seconds": round(seconds, 1)})
        self.save()
        print(f"{name:<28} {passed:5d} passed {failed:3d} failed {skipped:3d} skipped {seconds:6.1f} s",
              flush=True)
        return failed == 0

    def save(self):
        self.result["seconds"] = round(time.monotonic() - self.start, 1)
        self.result["passed"], self.result["failed"], self.result["skipped"] = self.counts
        part = self.result_file.with_name(self.result_file.name + ".part")
        part.write_text(json.dumps(self.result, indent=1) + "\n")
        part.replace(self.result_file)
        self.pack_logs()

    def pack_logs(self):
        """One file, where the result leaves the build folder; anew with every result, since whoever
        ends this run does not ask."""
        if self.result_file.parent != self.build:
            packed = self.result_file.parent / "logs.tar.gz"
            part = packed.with_name(packed.name + ".part")
            with tarfile.open(part, "w:gz") as archive:
                for log in sorted(self.logs.iterdir()):
                    try:
                        archive.add(log, arcname=f"logs/{log.name}")
                    except OSError:  # it grew while it was read
                        continue
            part.replace(packed)

    def tool(self, name):
        """A program of this run, wherever its folder is."""
        for folder in filter(None, (self.ready, self.build)):
            found = [p for p in folder.rglob(name) if p.is_file() and os.access(p, os.X_OK)]
            if found:
                return found[0]
        raise OSError(f"{name} was not built")

    def tools(self, pattern):
        folder = self.ready or self.build
        return sorted(p for p in folder.rglob(pattern) if p.is_file() and os.access(p, os.X_OK))


# ---- Building --------------------------------------------------------------------------------------

PROGRAMS = ("latentd", "golden_check", "make_golden_model", "make_checkpoint")


def compile_programs(run, archs, seconds):
    """(built, missing) names: what one file's error spoils is missed, the rest is used."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DLATENTD_MINIMAL=ON", f"-DLATENTD_CUDA_ARCHS={archs}",
               f"-DLATENTD_CUDA={'OFF' if run.host else 'ON'}"]
    # Nothing but the compilers is taken from the machine, even where more is installed.
    run.env["PKG_CONFIG_LIBDIR"] = "/nonexistent"
    tests = "cuda_test_real" if run.host else "gpu_tests"
    status, _ = run.call("cmake", ["cmake", "-S", ".", "-B", run.build, *generator, *options], 60)
    if status == 0:
        keep_going = ["--", "-k", "0"] if generator else ["--", "-k"]
        run.call("build", ["cmake", "--build", run.build, "-j", str(run.jobs), "--target", *PROGRAMS,
                           tests, *keep_going], seconds)
    wanted = list(PROGRAMS) + (["cuda_test_real"] if run.host else ["gpu_test_real"])
    if not run.host:
        listed = (ROOT / "tests/cuda/CMakeLists.txt").read_text()
        wanted += ["gpu_" + name for name in re.findall(
            r"^\s*ld_cuda_test\((test_\w+) (?!HOST_ONLY)", listed, re.M)]
    missing = []
    for name in wanted:
        try:
            run.tool(name)
        except OSError:
            missing.append(name)
    return [name for name in wanted if name not in missing], missing


def packed_ready():
    return READY.with_name(READY.name + ".tar.xz")


def keep_ready(run, arch, programs):
    """The programs alone, with what they were made of and for, in one file: most of them hold the same
    kernels, so that it is a tenth of their size."""
    shutil.rmtree(READY, ignore_errors=True)
    READY.mkdir(parents=True)
    for name in programs:
        shutil.copy2(run.tool(name), READY / name)
        subprocess.run(["strip", READY / name], check=False)
    facts = {"arch": arch, "sources": sources_hash(), "commit": git_commit()}
    (READY / "ready.json").write_text(json.dumps(facts) + "\n")
    with tarfile.open(packed_ready(), "w:xz") as archive:
        for path in sorted(READY.iterdir()):
            archive.add(path, arcname=path.name)
    return packed_ready().stat().st_size


def unpack_ready():
    if not packed_ready().exists():
        return
    shutil.rmtree(READY, ignore_errors=True)
    READY.mkdir(parents=True)
    with tarfile.open(packed_ready()) as archive:
        for member in archive:
            if member.isfile():
                path = READY / pathlib.PurePath(member.name).name
                path.write_bytes(archive.extractfile(member).read())
                path.chmod(member.mode & 0o777)


def find_ready(arch):
    """(folder, facts) of programs built beforehand for this card from these sources, or why not."""
    try:
        unpack_ready()
    except Exception as error:  # whatever is wrong with it, the sources are here
        return None, f"what was built beforehand cannot be unpacked ({error})"
    try:
        facts = json.loads((READY / "ready.json").read_text())
    except (OSError, ValueError):
        return None, "nothing was built beforehand"
    if facts.get("arch") != arch:
        return None, f"what was built beforehand is for {facts.get('arch')}, the card is {arch}"
    if facts.get("sources") != sources_hash():
        return None, "what was built beforehand is of other sources"
    try:
        done = subprocess.run([READY / "latentd", "bench", "plan", "512x512"], capture_output=True,
                              check=False, timeout=30)
        starts = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):  # made for another processor, say
        starts = False
    return (READY, facts) if starts else (None, "what was built beforehand does not start here")
