"""Writes a LLaMA as a GGUF file, version 3, as llama.cpp's converter lays it out.

Matrices are F16, norms F32, dimensions innermost first. The rows of Q and K are reordered so that
the two elements of a rotary pair are neighbours. Source: ggml's docs/gguf.md.

    write("demo-tipo.gguf", "demo TIPO", model, vocabulary)
"""

import struct

import numpy as np

import config
import tipo_pieces

ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
FORMATS = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}
F32, F16 = 0, 1
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
OUTER = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, item):
    return string(item) if kind == STRING else struct.pack(FORMATS[kind], item)


def pair(key, kind, item):
    """One key with its value; a list is an array of the kind."""
    if isinstance(item, list):
        return string(key) + struct.pack("<IIQ", ARRAY, kind, len(item)) + \
            b"".join(value(kind, each) for each in item)
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def metadata(name, vocabulary):
    s = config.TIPO
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, name),
        ("general.file_type", UINT32, 1),
        ("llama.context_length", UINT32, s["context"]),
        ("llama.embedding_length", UINT32, s["hidden"]),
        ("llama.block_count", UINT32, s["layers"]),
        ("llama.feed_forward_length", UINT32, s["mlp"]),
        ("llama.attention.head_count", UINT32, s["heads"]),
        ("llama.attention.head_count_kv", UINT32, s["heads"]),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, s["eps"]),
        ("llama.rope.dimension_count", UINT32, s["hidden"] // s["heads"]),
        ("llama.rope.freq_base", FLOAT32, s["theta"]),
        ("llama.vocab_size", UINT32, len(vocabulary.tokens)),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", STRING, vocabulary.tokens),
        ("tokenizer.ggml.scores", FLOAT32, vocabulary.scores),
        ("tokenizer.ggml.token_type", INT32, vocabulary.types),
        ("tokenizer.ggml.bos_token_id", UINT32, tipo_pieces.BEGIN),
        ("tokenizer.ggml.eos_token_id", UINT32, tipo_pieces.END),
        ("tokenizer.ggml.unknown_token_id", UINT32, tipo_pieces.UNKNOWN),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_space_prefix", BOOL, True),
    ]


def gguf_name(name):
    """ "layers.0.mlp.up_proj.weight" -> "blk.0.ffn_up.weight"."""
    parts = name.split(".")
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{NAMES['.'.join(parts[2:-1])]}.weight"
    return f"{OUTER[parts[0]]}.weight"


def neighbours(matrix, heads):
    """Rows of one head in the order 0, h/2, 1, h/2 + 1, ..."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write(path, name, model, vocabulary):
    tensors = []
    for key, tensor in model.state_dict().items():
        array = tensor.detach().float().numpy()
        if "q_proj" in key or "k_proj" in key:
            array = neighbours(array, config.TIPO["heads"])
        array = np.ascontiguousarray(array, "<f4" if array.ndim == 1 else "<f2")
        tensors.append((gguf_name(key), array))
    pairs = metadata(name, vocabulary)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(pair(*each) for each in pairs)
    offset, blobs = 0, []
    for key, array in tensors:
        head += string(key) + struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
        head += struct.pack("<IQ", F32 if array.ndim == 1 else F16, offset)
        blob = array.tobytes()
        blobs.append(blob + bytes(-len(blob) % ALIGNMENT))
        offset += len(blobs[-1])
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        file.writelines(blobs)
