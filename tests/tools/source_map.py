#!/usr/bin/env python3
"""Writes docs/source-map.md: every source file with the first sentence of its opening comment.

    source_map.py            prints the page
    source_map.py --write    replaces docs/source-map.md
    source_map.py --check    exit status 1 if the page is not in step with the tree

A .c file without a comment of its own is listed with its header, or in SAYS below.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/source-map.md"
ENDINGS = {".c", ".h", ".cu", ".cuh", ".def", ".py", ".sh"}

ROOMS = [
    ("runtime/base", "Base: errors, memory, bytes, files, threads, logs. Knows nothing above it."),
    ("config", "Limits, settings and the table of request fields."),
    ("kernels/cuda", "The CUDA backend: kernels by hand, their launchers, tuner and runtime."),
    ("kernels/host", "The same kernels on the host, one fiber a thread: tests only."),
    ("kernels", "The operator table and its backends. Knows no model."),
    ("runtime/sample", "Schedules, samplers, noise, guidance, resizing: the mathematics of sampling."),
    ("runtime/text", "From a prompt to token ids and weights."),
    ("runtime/image", "Pixels, PNG files and what they say about themselves."),
    ("runtime/ipc", "Frames between front and worker."),
    ("runtime/gpu", "Planning of device memory."),
    ("runtime/tipo", "Prompts written further by a language model, and the model itself."),
    ("runtime/model", "Files of weights, and the three networks over the operator table."),
    ("runtime", "The engine: jobs, sessions, ticks."),
    ("api", "Bytes to checked requests and back. Knows no socket."),
    ("server", "The program: HTTP front, queue, store, workers, command line."),
    ("deploy/demo_model", "The small checkpoint of the tree: its pictures and its training."),
    ("deploy", "Installing and running."),
    ("tests/golden_check", "Checks against the golden data."),
    ("tests/tools", "Makers of checkpoints and documents."),
    ("tests/unit", "One program a source file or claim."),
    ("tests/fuzz", "libFuzzer harnesses, one a border."),
    ("tests/bench", "Measurements."),
    ("tests/pipeline", "The program from outside: the command line and the server."),
    ("tests/api", "The real server with a scripted worker."),
    ("tests/page", "The web page in a real browser."),
    ("tests/fault", "Processes and disks that fail."),
    ("tests/load", "Long and heavy use."),
    ("tests/clients", "Programs that people have, unmodified, against a server of ours."),
    ("tests/features", "Every feature painted with and without, judged by numbers."),
    ("tests/cuda", "The CUDA kernels over their host build."),
    ("tests/ptx", "The CUDA kernels as nvcc compiled them, over a machine that runs PTX."),
    ("tests/arm64", "The CPU kernels on another processor."),
    ("tests/gpu", "What only a GPU can show, in one command."),
    ("tests/static", "The CUDA kernels proven by their compiler's words."),
    ("tests/demo", "The demo model judged by its pictures."),
    ("tests/tidy", "Rules that a machine can check."),
    ("tests/fresh", "A first run on a machine that has nothing."),
    ("tests", "The test commands."),
]

SAYS = {
    "runtime/base/json.c": "The tokenizer as a small automaton",
    "runtime/base/thread.c": "The pool: one generation counter starts a run, the caller works too",
    "runtime/sample/guidance_range.h": "Automatic CFG: guidance scaled by the range of its result",
    "runtime/sample/noise.h": "The noise of one image: initial tensor and the samplers' three streams",
    "runtime/text/schedule.c": "The schedule grammar in one pass, with the reference's way of falling back",
    "runtime/text/wildcards.c": "Evaluation of a template, once for each result",
    "runtime/text/bpe_encode.c": "Merging of byte pairs with a heap: O(n log n) for every input",
    "runtime/text/grammar_a1111.c": "The webui grammar: (x:1.2), [x], BREAK",
    "runtime/text/grammar_comfy.c": "The ComfyUI grammar: (x:1.2), embedding:name",
    "runtime/text/grammar_novelai.c": "The NovelAI grammar: {x}, [x], 1.5::x::",
    "runtime/image/png_header.c": "The first 33 bytes of a PNG, checked without libpng",
    "runtime/image/png_write.c": "The encoder: RGB rows, filters, deflate, text chunks before the pixels",
    "runtime/image/png_meta.c": "The walker of text chunks, with a ceiling on inflation",
    "runtime/model/adapter_apply.c": "Merging an adapter's modules into an overlay",
    "runtime/model/adapter_names.c": "Module names made from the network's modules and looked up",
    "runtime/model/safetensors_header.c": "The header's JSON in one pass; remembers the gravest error",
    "runtime/model/model_cost.c": "What a network costs for a shape, from its plan, without weights",
    "runtime/model/model_text.c": "The text encoder as a function: ids to encodings",
    "runtime/model/model_unet.c": "The UNet as a function over rows of a batch",
    "runtime/model/model_vae.c": "The two halves of the VAE as functions, whole or in tiles",
    "runtime/model/overlay.c": "Weights over a base with some tensors replaced",
    "runtime/library_inventory.c": "What a worker has, as JSON for the front",
    "tests/golden_check/gc.h": "What all checks share: reporting, files, arrays, tensors, distances",
    "server/blame.c": "Judges a worker's death: whose fault, what becomes of its jobs, when it starts again",
    "server/delivery.c": "What a worker's frames mean: progress, images, results, each checked",
    "server/handle_events.c": "Event streams with resume",
    "server/handle_images.c": "Pictures of jobs, and uploads",
    "server/handle_jobs.c": "Submitting, waiting for, listing, cancelling and deleting jobs",
    "server/handle_listings.c": "Models, adapters, embeddings, samplers, schedulers, sizes",
    "server/handle_meta.c": "Health, readiness, version, the OpenAPI document, the page at /",
    "server/handle_plan.c": "What a request would cost, and how a prompt is read",
    "server/handle_png.c": "What a PNG was made with, and making it again",
    "server/intake.c": "A body on its way into the queue: decode, check, store its pictures, submit",
    "server/jobs.c": "Jobs as replies show them: live progress, documents, image bytes",
    "server/plans.c": "Questions of cost on their way to a worker and back",
    "server/routes.c": "The table of routes with scope and kind of body",
    "server/store_jobs.c": "Writes of a job's way: claim, lease, pictures, finish, requeue, recover",
    "server/store_read.c": "Reads: jobs, lists, events, uploads",
    "server/store_sqlite.c": "Connections, statements and errors of SQLite",
    "server/store_upkeep.c": "Expiry, uploads, notes, references of blobs",
    "server/cmd_bench_kernels.c": "`bench kernels`: every distinct operator of a network against its floor",
    "server/cmd_bench_serve.c": "`bench serve`: pictures a second with 1, 2, 4 ... of them in flight, as the engine serves them",
    "server/cmd_bench_common.c": "What the bench verbs share: opening a backend, noise, medians, printing",
    "server/handle_tags.c": "Completion of tags",
    "server/wait.c": "A call that waits for its job to end",
}


def tracked():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in out.stdout.splitlines()
            if pathlib.Path(line).suffix in ENDINGS and not line.startswith("tests/golden/")]


def opening(path):
    """The text of the comment that opens the file: before its includes, or a block of its own
    right after them."""
    text = (ROOT / path).read_text("utf-8", "replace")
    if path.endswith((".c", ".h", ".cu", ".cuh", ".def")):
        match = re.match(r"\s*/\*(.*?)\*/", text, re.S) or \
            re.match(r"(?:\s|#include [^\n]*)*/\*\n(.*?)\*/\n\n", text, re.S)
        if not match:
            return ""
        lines = [re.sub(r"^\s*\*? ?", "", line) for line in match[1].splitlines()]
    elif path.endswith(".py"):
        match = re.match(r'(?:#![^\n]*\n)?\s*"""(.*?)"""', text, re.S)
        lines = match[1].splitlines() if match else []
    else:
        lines = []
        for line in text.splitlines():
            if line.startswith("#!"):
                continue
            if not line.startswith("#"):
                break
            lines.append(line[1:].strip())
    paragraph = []
    for line in lines:
        if not line.strip() and paragraph:
            break
        paragraph.append(line.strip())
    return " ".join(paragraph).strip()


def sentence(text):
    """The first sentence, with a second where it is very short; of a long one what stands before
    its first colon or semicolon."""
    match = re.match(r"(.+?[.!?])(?=\s+[A-Z`(]|$)", text)
    first = match[1] if match else text
    if len(first) < 30 and match:
        match = re.match(r"(.+?[.!?]\s+.+?[.!?])(?=\s+[A-Z`(]|$)", text)
        first = match[1] if match else first
    if len(first) > 150:
        first = re.split(r"[:;] ", first)[0]
    return first.rstrip(".").replace("|", "\\|")


def rows(files):
    """(names, line) of one folder; a pair of .h and .c with one comment is one row."""
    files = set(files)
    for path in sorted(files):
        stem, suffix = path.rsplit(".", 1)
        if suffix == "c" and stem + ".h" in files and not opening(path):
            continue
        both = suffix == "h" and stem + ".c" in files and not opening(stem + ".c")
        name = stem.rsplit("/", 1)[-1] + (".[ch]" if both else "." + suffix)
        yield name, SAYS.get(path) or sentence(opening(path)), path


def page():
    out = ["# Source map", "",
           "Every file in one line, room by room, lowest first; a room knows only rooms above it in",
           "this list (docs/architecture.md). Made by `tests/tools/source_map.py --write` from the",
           "first sentence of each file.", ""]
    left = tracked()
    missing = []
    for room, about in ROOMS:
        inside = [path for path in left if path.startswith(room + "/")]
        if room in ("runtime", "tests"):
            inside = [path for path in inside if "/" not in path[len(room) + 1:]]
        left = [path for path in left if path not in inside]
        if not inside:
            continue
        out += [f"## {room}", "", about, "", "| File | What it is |", "|---|---|"]
        for name, line, path in rows(inside):
            if not line:
                missing.append(path)
            folder = path.rsplit("/", 1)[0][len(room):].strip("/")
            out.append(f"| `{folder + '/' if folder else ''}{name}` | {line} |")
        out.append("")
    missing += left
    return "\n".join(out), missing


def main():
    text, missing = page()
    for path in missing:
        print(f"source_map: {path} does not say what it is", file=sys.stderr)
    if "--write" in sys.argv:
        PAGE.write_text(text, "utf-8")
    elif "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text("utf-8") != text:
            sys.exit("docs/source-map.md is not in step; run tests/tools/source_map.py --write")
    else:
        print(text)
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
