#!/usr/bin/env python3
"""What can be proven of the CUDA kernels without a chip: each compiles for every target with spills,
local memory and warnings as errors, keeps to its registers and shared memory, issues the
instructions it was written for, and draws none of the compiler's notes that mean lost speed.

usage: proof.py [--update] [--jobs N] [FILE.cu...]

Without files: all of kernels/cuda. What was compiled once is remembered in build/static by the hash of
everything that went in, so only changed kernels cost time. `--update` writes budget.txt and census.txt
from what was found. Prints a line a finding, then `N passed, N failed, N skipped`.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "static"
KERNELS = ROOT / "kernels" / "cuda"
CACHE = ROOT / "build" / "static"

# The sm_80 path: one front-end pass, code for every chip. Files for one chip family compile alone. Only
# the device's half is compiled here, at full optimisation: what ptxas says of less is not what ships.
# The host's half is the build's business (LATENTD_CUDA) and would be a third of the time.
TARGETS = ("80", "86", "89", "90", "100", "120")
HOPPER = ("90a",)
# Static shared memory never exceeds 48 KB; dynamic sizes are what the variants tell (unit tests).
STATIC_SHARED_MAX = 48 * 1024
REGISTERS_MAX = 255
FLAGS = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xcompiler",
         "-fno-exceptions,-fno-rtti,-Wall,-Wextra"]
PTXAS_FLAGS = ["-O3", "-v", "-m64", "-warn-spills", "-warn-lmem-usage", "--warning-as-error"]
# Notes that -Werror lets through (kernels.md 14, 15): setmaxnreg ignored, wgmma serialised.
NOTES = re.compile(r"\bC75(?:08|10|17|19)\b")
# Instruction -> how it begins in PTX. Predicates and labels stand before it. mma.f16: of those, with fp16 sums.
CENSUS = {
    "mma": r"mma\.sync", "mma.f16": r"mma\.sync\.\S+\.f16\.f16\.f16\.f16", "ldmatrix": r"ldmatrix",
    "cp.async": r"cp\.async\.c[ag]",
    "ex2": r"ex2\.approx", "barrier": r"(?:bar|barrier)\.(?:cta\.)?(?:sync|red|arrive)",
    "wgmma": r"wgmma\.mma_async", "bulk": r"cp\.async\.bulk", "local": r"(?:ld|st)\.local",
    "atomic": r"(?:atom|red)\.",
}


def find_tool(name):
    found = shutil.which(name)
    for folder in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if not found and folder and os.access(f"{folder}/bin/{name}", os.X_OK):
            found = f"{folder}/bin/{name}"
    return found


def targets_of(path):
    return HOPPER if path.stem.endswith("_sm90") else TARGETS


def front_command(nvcc, path, ptx):
    front = targets_of(path)[0]
    return [nvcc, *FLAGS, "-gencode", f"arch=compute_{front},code=compute_{front}", f"-I{ROOT}", "-ptx",
            str(path), "-o", ptx]


def back_command(nvcc, target, ptx):
    """The assembler that lies beside the compiler."""
    ptxas = pathlib.Path(nvcc).resolve().parent / "ptxas"
    return [str(ptxas), *PTXAS_FLAGS, "-arch", f"sm_{target}", ptx, "-o", ptx + f".{target}.cubin"]


def run(command):
    """(whether it went well, what it said)"""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


# ---- Reading what the compiler says ----------------------------------------------------------------

ENTRY = re.compile(r"Compiling entry function '([^']+)' for 'sm_(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def parse_usage(log):
    """{kernel: {target: [registers, shared, stack, spill]}} from --resource-usage."""
    usage, current = {}, None
    for line in log.splitlines():
        entry = ENTRY.search(line)
        if entry:
            current = usage.setdefault(entry[1], {}).setdefault(entry[2], [0, 0, 0, 0])
        if current is None:
            continue
        stack, used = STACK.search(line), USED.search(line)
        if stack:
            current[2] = int(stack[1])
            current[3] = int(stack[2]) + int(stack[3])
        if used:
            current[0] = int(used[1])
            shared = SHARED.search(line)
            current[1] = int(shared[1]) if shared else 0
            current = None
    return usage


def parse_census(ptx):
    """{kernel: {instruction: count}} of the entry functions."""
    census, kernel = {}, None
    patterns = {name: re.compile(r"(?:^|[\s{;])(?:@!?%p\d+\s+)?" + how) for name, how in CENSUS.items()}
    for line in ptx.splitlines():
        entry = re.match(r"\s*(?:\.visible\s+|\.weak\s+)?\.entry\s+(\w+)", line)
        if entry:
            kernel = census.setdefault(entry[1], dict.fromkeys(CENSUS, 0))
        elif kernel is not None:
            for name, pattern in patterns.items():
                kernel[name] += len(pattern.findall(line))
            if line == "}":
                kernel = None
    return census


def included(path):
    """The file and all of ours that it includes, in a fixed order."""
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        waiting += [ROOT / name for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', file.read_text(),
                                                       re.M)]
    return sorted(seen)


def fingerprint(version, path):
    """Hash of the compiler, the flags and every byte of ours that goes in."""
    digest = hashlib.sha256(f"{version}\n{FLAGS}\n{PTXAS_FLAGS}\n{targets_of(path)}\n{CENSUS}\n".encode())
    for part in included(path):
        digest.update(part.name.encode() + b"\0" + part.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def prove_file(nvcc, version, path):
    """{"log", "usage", "census", "ok"} of one source file, from the cache if nothing changed."""
    cached = CACHE / f"{path.stem}-{fingerprint(version, path)}.json"
    if cached.exists():
        return json.loads(cached.read_text())
    with tempfile.TemporaryDirectory() as folder:
        ptx = f"{folder}/{path.stem}.ptx"
        ok, log = run(front_command(nvcc, path, ptx))
        for target in targets_of(path) if ok else ():
            fine, said = run(back_command(nvcc, target, ptx))
            ok, log = ok and fine, log + said
        text = pathlib.Path(ptx).read_text(errors="replace") if pathlib.Path(ptx).exists() else ""
        result = {"ok": ok, "log": log, "usage": parse_usage(log), "census": parse_census(text)}
    if result["ok"]:  # a failure is tried again each time
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob(f"{path.stem}-*.json"):
            old.unlink()
        part = cached.with_suffix(".part")
        part.write_text(json.dumps(result))
        part.replace(cached)
    return result


# ---- The checked-in tables -------------------------------------------------------------------------

BUDGET_HEAD = """\
# The most that each kernel may take: static shared memory and stack in bytes, registers a thread for
# each target. Written by tests/static/run.sh --update; a larger number here is a decision, not a fix.
# Another compiler allots registers in its own way: they are compared under this one only, spills, stack
# and shared memory under any. compiler: %s
# file kernel shared stack %s
"""
CENSUS_HEAD = """\
# PTX instructions of each kernel. compiler: %s
# file kernel %s
"""


def budget_line(file, kernel, usage):
    targets = targets_of(pathlib.Path(file))
    shared = max(u[1] for u in usage.values())
    stack = max(u[2] for u in usage.values())
    return " ".join([file, kernel, str(shared), str(stack)] + [str(usage[t][0]) for t in targets])


def census_line(file, kernel, counts):
    return " ".join([file, kernel] + [f"{n}={counts[n]}" for n in CENSUS if counts[n]])


def read_table(path):
    """{(file, kernel): [words]}, and the compiler line of the census."""
    rows, compiler = {}, ""
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("#"):
            compiler = line.partition("compiler: ")[2] or compiler
        elif line.strip():
            file, kernel, *words = line.split()
            rows[(file, kernel)] = words
    return rows, compiler


def check_budget(file, result, budget, same_compiler):
    """Findings of one file."""
    targets = targets_of(pathlib.Path(file))
    for kernel, usage in result["usage"].items():
        missing = [t for t in targets if t not in usage]
        if missing:
            yield f"{file}: {kernel} was not compiled for sm_{', sm_'.join(missing)}"
            continue
        for target, (registers, shared, stack, spill) in usage.items():
            if spill or registers > REGISTERS_MAX or shared > STATIC_SHARED_MAX:
                yield (f"{file}: {kernel} sm_{target}: {registers} registers, {shared} shared, {stack} "
                       f"stack, {spill} spilled bytes")
        allowed = budget.get((file, kernel))
        if allowed is None:
            yield f"{file}: {kernel} has no budget; look at it, then run tests/static/run.sh --update"
            continue
        numbers = [int(word) for word in allowed]
        found = [int(word) for word in budget_line(file, kernel, usage).split()[2:]]
        names = ["shared", "stack"] + [f"registers on sm_{t}" for t in targets]
        for name, most, now in zip(names, numbers, found):
            if now > most and (same_compiler or not name.startswith("registers")):
                yield f"{file}: {kernel}: {now} {name}, the budget is {most}"


def check_census(file, result, census, same_compiler):
    for kernel, counts in result["census"].items():
        expected = census.get((file, kernel))
        if expected is None:
            yield f"{file}: {kernel} is not in census.txt; run tests/static/run.sh --update"
            continue
        before = {name: int(count) for name, _, count in (word.partition("=") for word in expected)}
        for name in CENSUS:
            was, now = before.get(name, 0), counts[name]
            if (was == 0) != (now == 0) or (same_compiler and was != now):
                yield f"{file}: {kernel}: {now} {name} instructions, {was} expected"


def check_gone(results, table, name):
    known = {(file, kernel) for file, result in results.items() for kernel in result["usage"]}
    for file, kernel in table:
        if file in results and (file, kernel) not in known:
            yield f"{name}: {file} has no kernel {kernel} any more"
        elif not (KERNELS / file).exists():
            yield f"{name}: {file} does not exist any more"


def update(results, version):
    order = sorted((file, kernel) for file, r in results.items() for kernel in r["usage"])
    head = BUDGET_HEAD % (version, " ".join(f"sm_{t}" for t in TARGETS))
    (HERE / "budget.txt").write_text(head + "".join(
        budget_line(f, k, results[f]["usage"][k]) + "\n" for f, k in order))
    (HERE / "census.txt").write_text(CENSUS_HEAD % (version, " ".join(CENSUS)) + "".join(
        census_line(f, k, results[f]["census"][k]) + "\n" for f, k in order))


# ---- Main ------------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    nvcc = find_tool("nvcc")
    if not nvcc:
        print("skip: nvcc is not on this machine")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True,
                             check=True).stdout.strip().splitlines()[-1]
    paths = [pathlib.Path(f).resolve() for f in args.files] or sorted(KERNELS.glob("*.cu"))
    results = {}
    with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
        for path, result in zip(paths, pool.map(lambda p: prove_file(nvcc, version, p), paths)):
            results[path.name] = result
    if args.update and not args.files and all(r["ok"] for r in results.values()):
        update(results, version)
    budget, budget_compiler = read_table(HERE / "budget.txt")
    census, compiler = read_table(HERE / "census.txt")
    passed = failed = 0

    def judge(what, findings):
        nonlocal passed, failed
        findings = list(findings)
        passed, failed = passed + (not findings), failed + bool(findings)
        print(("FAIL " if findings else "ok ") + what)
        for finding in findings[:20]:
            print("   ", finding)

    for file, result in results.items():
        log = result["log"].splitlines()
        judge(f"{file} compiles for {' '.join(targets_of(pathlib.Path(file)))}",
              [] if result["ok"] else [line for line in log if "error" in line or "warning" in line] or log)
        if not result["ok"]:
            continue
        judge(f"{file} draws no note of lost speed", (line for line in log if NOTES.search(line)))
        judge(f"{file} keeps its budget", check_budget(file, result, budget, budget_compiler == version))
        judge(f"{file} issues its instructions",
              check_census(file, result, census, compiler == version))
    if not args.files:
        judge("budget.txt lists only kernels there are", check_gone(results, budget, "budget.txt"))
        judge("census.txt lists only kernels there are", check_gone(results, census, "census.txt"))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
