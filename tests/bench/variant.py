"""An adapter of low rank over every matrix and convolution of a checkpoint's UNet, random.

    variant.py CHECKPOINT OUT.safetensors [RANK]
"""

import json
import struct
import sys

import numpy as np

STEM = "model.diffusion_model."


def main():
    source, out = sys.argv[1:3]
    rank = int(sys.argv[3]) if len(sys.argv) > 3 else 16
    with open(source, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(size))
    rng, header, parts, at = np.random.default_rng(1), {}, [], 0
    for name, entry in sorted(entries.items()):
        shape = entry.get("shape", [])
        if not name.startswith(STEM) or not name.endswith(".weight") or len(shape) < 2:
            continue
        module = "lora_unet_" + name[len(STEM):-len(".weight")].replace(".", "_")
        for key, dims in (("lora_down", [rank, *shape[1:]]),
                          ("lora_up", [shape[0], rank, *([1, 1] if len(shape) == 4 else [])])):
            raw = (rng.standard_normal(dims) * 0.01).astype(np.float16).tobytes()
            header[f"{module}.{key}.weight"] = {"dtype": "F16", "shape": dims,
                                                "data_offsets": [at, at + len(raw)]}
            parts.append(raw)
            at += len(raw)
    text = json.dumps(header).encode()
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for raw in parts:
            file.write(raw)


if __name__ == "__main__":
    main()
