#!/usr/bin/env python3
"""Cuts the compact golden data of tests/golden out of the full set.

    compact_golden.py FULL SPEC OUT

FULL is a folder with `model` and `sampling` (formats: tests/golden/README.md), SPEC the folder of
the tensor inventories, OUT the folder to fill; files of an earlier run there are replaced, a file
that this run does not write is an error. The same input gives the same bytes: cases are chosen by
the rules below, in the order of the source, and nothing depends on time or place. Ends with the
size of each part and fails above the limit.
"""

import json
import pathlib
import re
import struct
import sys

LIMIT = 4_000_000

# Spatial window of the sampler trajectories, rows x columns of 8 x 8: the known denoiser works
# position by position and so do all samplers but the adaptive one, whose step size depends on a
# norm over the whole picture; its cases stay whole, in a folder of their own.
WINDOW = (2, 2)

# Case ids kept, by case file of the model folder. The others differ in shape or text only.
MODEL_CASES = {
    "ops": ["group_norm_2", "group_norm_4", "layer_norm_6", "activations_8",
            "timestep_embedding_9", "attention_11", "attention_18", "conv2d_20", "conv2d_22",
            "conv2d_23", "conv2d_25", "conv2d_26", "upsample_nearest_27", "geglu_28"],
    "tiny_clip": ["tiny_clip0", "tiny_clip1"],
    "tiny_unet": ["tiny_unet0", "tiny_unet3", "tiny_unet5", "tiny_unet11"],
    "tiny_vae": ["tiny_vaedec1", "tiny_vaedec3", "tiny_vaeenc1"],
    "emphasis": ["emph1", "emph2", "emph4"],
    "ti": ["ti0", "ti3"],
    "adapters": ["base", "input", "full_diff_norm", "ia3", "lora_kohya_ldm_names", "dora_in_w"],
    "merges": ["inputs", "weighted_sum_0.3", "add_difference_1", "mbw", "ties", "dare"],
}
# Left out of every case of `merges`: two large tensors.
MERGES_WITHOUT = ("input_blocks.2.0.in_layers.2.weight", "layers.0.mlp.fc1.weight")

# The full set says that this file is to be accepted, but its data ends before the ranges that its
# own header declares; the cut completes it with zero bytes, which is what the rest holds.
SHORT = "st/valid_all_dtypes.safetensors"


class Output:
    """The folder being written, and what has been written."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.sizes = {}

    def write(self, relative, data):
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.sizes[str(relative)] = len(data)

    def write_json(self, relative, value):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
        self.write(relative, text.encode("ascii") + b"\n")


# ---- Containers ---------------------------------------------------------------------------------

def read_npy(path):
    """(descr, shape, raw data) of a version 1.0 file in C order."""
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", path
    (size,) = struct.unpack_from("<H", data, 8)
    header = data[10:10 + size].decode("ascii")
    assert "'fortran_order': False" in header, path
    descr = re.search(r"'descr': '([^']+)'", header)[1]
    shape = tuple(int(n) for n in re.findall(r"\d+", re.search(r"\(([^)]*)\)", header)[1]))
    return descr, shape, data[10 + size:]


def npy(descr, shape, data):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii") + data


def read_tensors(path):
    """name -> (dtype, shape, bytes) of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    base = 8 + size
    return {name: (entry["dtype"], entry["shape"],
                   data[base + entry["data_offsets"][0]:base + entry["data_offsets"][1]])
            for name, entry in header.items()}


def tensors_file(tensors):
    header, parts, offset = {}, [], 0
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


# ---- The model folder ---------------------------------------------------------------------------

def cut_case_file(full, out, name, keep):
    cases = json.loads((full / "model" / f"{name}.json").read_text("utf-8"))
    tensors = read_tensors(full / "model" / cases["tensors_file"])
    cases["cases"] = [case for case in cases["cases"] if case["id"] in keep]
    kept = {}
    for key, value in tensors.items():
        case, tensor = key.split("/", 1)
        if case in keep and not (name == "merges" and tensor.endswith(MERGES_WITHOUT)):
            kept[key] = value
    for case in cases["cases"]:
        if "tensors" in case:
            case["tensors"] = [label for label in case["tensors"] if label in kept]
    files = {entry["file"] for case in cases["cases"] for entry in case.get("adapters", [])}
    for file in sorted(files):
        out.write(f"model/{file}", (full / "model" / file).read_bytes())
    out.write_json(f"model/{name}.json", cases)
    out.write(f"model/{cases['tensors_file']}", tensors_file(kept))


def cut_lines(full, out, name, every):
    """Every n-th line of each kind, n = every(kind)."""
    lines, seen = [], {}
    for line in (full / "model" / name).read_bytes().splitlines(keepends=True):
        kind = json.loads(line).get("kind", "")
        if seen.setdefault(kind, 0) % every(kind) == 0:
            lines.append(line)
        seen[kind] += 1
    out.write(f"model/{name}", b"".join(lines))


def completed(data):
    """The bytes of a safetensors file up to the last end that its header declares."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    end = max(entry["data_offsets"][1] for entry in header.values())
    return data.ljust(8 + size + end, b"\0")


def cut_model(full, out):
    for name, keep in MODEL_CASES.items():
        cut_case_file(full, out, name, set(keep))
    for name in ("st_index.json", "detect.json", "wildcards.json", "generator_check.json"):
        out.write_json(f"model/{name}", json.loads((full / "model" / name).read_text("utf-8")))
    out.write("model/dtypes.safetensors", (full / "model" / "dtypes.safetensors").read_bytes())
    for folder in ("st", "embeddings"):
        for path in sorted((full / "model" / folder).iterdir()):
            name, data = f"{folder}/{path.name}", path.read_bytes()
            out.write(f"model/{name}", completed(data) if name == SHORT else data)
    # What needs the CLIP vocabulary is long, and a clone alone cannot run it.
    cut_lines(full, out, "prompts.jsonl", lambda kind: 6 if "chunks" in kind else 1)
    cut_lines(full, out, "tokenizer.jsonl", lambda kind: 3)


def cut_spec(spec, out):
    keys = json.loads((spec / "sd15_keys.json").read_text("utf-8"))
    out.write_json("spec/sd15_keys.json", {"tensors": [
        {key: tensor[key] for key in ("name", "shape", "required")} for tensor in keys["tensors"]]})
    names = json.loads((spec / "diffusers_key_map.json").read_text("utf-8"))
    out.write_json("spec/diffusers_key_map.json",
                   {key: names[key] for key in ("unet", "vae", "text_encoder", "reshape")})


# ---- The sampling folder ------------------------------------------------------------------------

def window(path, rows=None):
    """The first `rows` latents of a file, cut to WINDOW in their last two dimensions."""
    descr, shape, data = read_npy(path)
    height, width = shape[-2:]
    item = int(descr[2:])
    planes = 1
    for size in shape[:-2]:
        planes *= size
    if rows is not None:
        planes = planes // shape[0] * rows
        shape = (rows,) + shape[1:]
    parts = []
    for plane in range(planes):
        for row in range(WINDOW[0]):
            start = ((plane * height + row) * width) * item
            parts.append(data[start:start + WINDOW[1] * item])
    return npy(descr, shape[:-2] + WINDOW, b"".join(parts))


def rows_of(path, rows):
    descr, shape, data = read_npy(path)
    size = len(data) // shape[0]
    return npy(descr, (rows,) + shape[1:], data[:rows * size])


def cut_traj(full, out):
    sampling = full / "sampling"
    manifest = json.loads((sampling / "traj/manifest.json").read_text("utf-8"))
    cases = [case for case in manifest["cases"] if case["steps"] <= 8]
    vp = json.loads((sampling / "traj_vp/manifest.json").read_text("utf-8"))
    groups = (("sampling", [c for c in cases if not c["sampler"].startswith("dpm_adaptive")], True),
              ("sampling/whole", [c for c in cases if c["sampler"].startswith("dpm_adaptive")],
               False))
    for folder, kept, cut in groups:
        draws = [case["noise_draws"] for case in kept]
        if cut:
            draws += [case["noise_draws"] for case in vp["cases"]]
        for name in ("mu_cond", "mu_uncond", "x_unit", "noise_bank"):
            path = sampling / f"traj/common/{name}.npy"
            rows = max(max(draws), 1) if name == "noise_bank" else None
            if cut:
                data = window(path, rows)
            else:
                data = rows_of(path, rows) if rows else path.read_bytes()
            out.write(f"{folder}/traj/common/{name}.npy", data)
        for case in kept:
            path = sampling / case["file"]
            out.write(f"{folder}/{case['file']}", window(path) if cut else path.read_bytes())
            for unused in ("float32_reference_max_abs_error", "final_max_abs"):
                case.pop(unused, None)
        out.write_json(f"{folder}/traj/manifest.json",
                       {"mixture": manifest["mixture"], "cases": kept})
    for case in vp["cases"]:
        out.write(f"sampling/{case['file']}", window(sampling / case["file"]))
    out.write_json("sampling/traj_vp/manifest.json", vp)


def keep_guidance(case):
    """The first of three latent shapes, and the batch of two where the rule may see it."""
    return re.match(r"(cfg|rescale|perpneg|autocfg_\w*|dynthresh|uncondzero)[12](_|$)",
                    case["name"]) is None or \
        case["name"] in ("cfg1", "perpneg1", "autocfg_hard1", "dynthresh1_2")


def keep_brownian(case):
    return re.search(r"/(s0\.(simple8\.b1|karras15\.b1|perimage)|s42\.simple8\.b2|"
                     r"s9223372036854775807\.simple8\.b1)", case["file"]) is not None


def keep_resize(case):
    """Up, odd ratio, down, and the degenerate vectors; every method."""
    return re.search(r"\.[14]\.npy$", case["file"]) is None


def cut_manifest(full, out, name, keep=lambda case: True):
    """A manifest and the arrays that its cases name."""
    manifest = json.loads((full / "sampling" / name).read_text("utf-8"))
    manifest["cases"] = [case for case in manifest["cases"] if keep(case)]
    text = json.dumps(manifest["cases"])
    for file in sorted(set(re.findall(r'"([\w./-]+\.npy)"', text))):
        out.write(f"sampling/{file}", (full / "sampling" / file).read_bytes())
    out.write_json(f"sampling/{name}", manifest)


def cut_sampling(full, out):
    cut_traj(full, out)
    cut_manifest(full, out, "guidance/manifest.json", keep_guidance)
    cut_manifest(full, out, "guidance/area.json")
    cut_manifest(full, out, "resize/manifest.json", keep_resize)
    cut_manifest(full, out, "deepshrink/manifest.json")
    cut_manifest(full, out, "rng/image_rng.json")
    cut_manifest(full, out, "rng/brownian.json", keep_brownian)
    for name in ("rng/torch_cpu.json", "rng/philox.json", "prompt/schedules.json",
                 "tables/mapping.json"):
        out.write_json(f"sampling/{name}",
                       json.loads((full / "sampling" / name).read_text("utf-8")))
    for path in sorted((full / "sampling/schedules").iterdir()):
        out.write_json(f"sampling/schedules/{path.name}", json.loads(path.read_text("utf-8")))
    for path in sorted((full / "sampling/tables").glob("*.npy")):
        out.write(f"sampling/tables/{path.name}", path.read_bytes())


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: compact_golden.py FULL SPEC OUT")
    full, spec, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), Output(sys.argv[3])
    cut_model(full, out)
    cut_spec(spec, out)
    cut_sampling(full, out)
    known = set(out.sizes) | {"README.md", "run.sh"}
    stray = [str(path.relative_to(out.folder)) for path in sorted(out.folder.rglob("*"))
             if path.is_file() and str(path.relative_to(out.folder)) not in known]
    parts = {}
    for name, size in out.sizes.items():
        part = "/".join(name.split("/")[:2])
        parts[part] = parts.get(part, 0) + size
    for part in sorted(parts):
        print(f"{parts[part]:9d} {part}")
    total = sum(out.sizes.values())
    print(f"{total:9d} bytes in {len(out.sizes)} files")
    if stray:
        sys.exit("not written by this run: " + " ".join(stray))
    if total > LIMIT:
        sys.exit(f"more than {LIMIT} bytes")


if __name__ == "__main__":
    main()
