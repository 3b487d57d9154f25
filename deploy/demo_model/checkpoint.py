"""Write safetensors files: the single-file checkpoint and adapters, in fp16."""

import json
import struct

import numpy as np
import torch

import config
import vocabulary


def write(path, tensors, metadata):
    """A safetensors file; `tensors` maps names to torch tensors, floats become fp16."""
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().cpu().float().numpy().astype("<f2"))
        blob = array.tobytes()
        header[name] = {"dtype": "F16", "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blobs)


def read(path):
    """(tensors in fp32, metadata) of a file that `write` wrote."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    metadata, tensors = header.pop("__metadata__"), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], "<f2").astype(np.float32)
        tensors[name] = torch.from_numpy(array.reshape(entry["shape"]))
    return tensors, metadata


PARTS = {"vae": "first_stage_model.", "unet": "model.diffusion_model.",
         "text": "cond_stage_model.transformer.text_model."}


def read_model(path):
    """State dicts {"vae", "unet", "text"} in fp32 of a file that write_model wrote."""
    tensors, _ = read(path)
    return {part: {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
            for part, prefix in PARTS.items()}


def write_model(path, vae, text, unet):
    """The whole model in SD1.5's single-file layout, widths and vocabulary in its metadata."""
    tensors = {}
    for part, module in (("vae", vae), ("unet", unet), ("text", text)):
        tensors.update({PARTS[part] + name: v for name, v in module.state_dict().items()})
    widths = {"unet": config.UNET, "vae": config.VAE, "clip": config.CLIP}
    write(path, tensors, {"format": "pt", "latentd.test_config": json.dumps(widths),
                          "latentd.bpe_merges": vocabulary.merges_text()})
