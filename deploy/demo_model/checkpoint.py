"""Write safetensors files: the single-file checkpoint and adapters, in fp16."""

import json
import struct

import numpy as np

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


def write_model(path, vae, text, unet):
    """The whole model in SD1.5's single-file layout, widths and vocabulary in its metadata."""
    tensors = {}
    for prefix, module in (("first_stage_model.", vae), ("model.diffusion_model.", unet),
                           ("cond_stage_model.transformer.text_model.", text)):
        tensors.update({prefix + name: value for name, value in module.state_dict().items()})
    widths = {"unet": config.UNET, "vae": config.VAE, "clip": config.CLIP}
    write(path, tensors, {"format": "pt", "latentd.test_config": json.dumps(widths),
                          "latentd.bpe_merges": vocabulary.merges_text()})
