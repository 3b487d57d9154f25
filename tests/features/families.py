"""Writes the demo model's sketch LoRA in the other forms that adapters come in, so that one style can be
painted by each. The forms are chosen so that they say the same change of the weights: a Hadamard
factor of ones, a Kronecker factor of one, an identity for a middle. IA3 cannot say it, so that file
says another thing: the values of the attention to the prompt are taken away.

    write_families(sketch, folder)   # sketch-loha.safetensors, ...; returns their names
    python3 families.py FOLDER       # the same from the command line
"""

import json
import pathlib
import re
import struct
import sys

import numpy as np

WORDS = re.compile(r"down_blocks|up_blocks|mid_block|attentions|transformer_blocks|attn[12]|"
                   r"to_(?:q|k|v|out)|proj_in|proj_out|ff|net|proj|\d+")


def read(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[8 + size:], np.float16, (t["data_offsets"][1] - t["data_offsets"][0]) // 2,
                                t["data_offsets"][0]).reshape(t["shape"]).astype(np.float32)
            for name, t in header.items()}


def write(path, tensors):
    header, body = {}, b""
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(np.shape(tensors[name])),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def flat(x):
    return x.reshape(len(x), -1)


def dotted(module):
    """lora_unet_mid_block_attentions_0_proj_in: unet.mid_block.attentions.0.proj_in"""
    return "unet." + ".".join(WORDS.findall(module.removeprefix("lora_unet_")))


def locon(m, down, up, alpha):
    if down.ndim == 2:
        return {f"{m}.lora_down.weight": down, f"{m}.lora_up.weight": up, f"{m}.alpha": alpha}
    middle = np.eye(len(down)).reshape(len(down), len(down), 1, 1)
    return {f"{m}.lora_down.weight": down, f"{m}.lora_mid.weight": middle, f"{m}.lora_up.weight": up,
            f"{m}.alpha": alpha}


def loha(m, down, up, alpha):
    rank, columns = flat(down).shape
    one = np.zeros((rank, columns))
    one[0] = 1
    return {f"{m}.hada_w1_a": flat(up), f"{m}.hada_w1_b": flat(down), f"{m}.alpha": alpha,
            f"{m}.hada_w2_a": np.ones((len(up), rank)), f"{m}.hada_w2_b": one}


def lokr(m, down, up, alpha):
    return {f"{m}.lokr_w1": np.ones((1, 1)), f"{m}.lokr_w2_a": flat(up), f"{m}.lokr_w2_b": flat(down),
            f"{m}.alpha": alpha}


def difference(m, down, up, alpha):
    delta = float(alpha[0]) / len(down) * flat(up) @ flat(down)
    return {f"{m}.diff": delta.reshape(len(up), *down.shape[1:])}


def peft(m, down, up, alpha):
    return {f"{dotted(m)}.lora_A.weight": flat(down),
            f"{dotted(m)}.lora_B.weight": float(alpha[0]) / len(down) * flat(up)}


FORMS = {"locon": locon, "loha": loha, "lokr": lokr, "diff": difference, "peft": peft}


def write_families(sketch, folder):
    tensors = read(sketch)
    modules = sorted(name.removesuffix(".alpha") for name in tensors if name.endswith(".alpha"))
    for form, make in FORMS.items():
        out = {}
        for m in modules:
            out.update(make(m, tensors[f"{m}.lora_down.weight"], tensors[f"{m}.lora_up.weight"],
                            tensors[f"{m}.alpha"]))
        write(folder / f"sketch-{form}.safetensors", out)
    silent = {}
    for m in modules:
        if m.endswith("attn2_to_v"):
            silent[f"{m}.weight"] = -np.ones(len(tensors[f"{m}.lora_up.weight"]))
            silent[f"{m}.on_input"] = np.zeros(1)
    write(folder / "deaf-ia3.safetensors", silent)
    return [f"sketch-{form}" for form in FORMS]


if __name__ == "__main__":
    FILES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "demo_model" / "files"
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(*write_families(FILES / "adapters" / "demo-sketch.safetensors", target))
