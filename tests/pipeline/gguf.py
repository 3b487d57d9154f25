"""Reads and writes GGUF files for tests, independently of the program: version 3, typed metadata,
matrices as F32, F16, BF16 or Q8_0.

    fields, tensors = gguf.read(path)               # {key: (type, value)}, {name: float32 [rows, columns]}
    gguf.write(other, fields, tensors, gguf.Q8_0)   # vectors stay F32

An array's type is the tuple (ARRAY, type of its elements). Source: ggml's docs/gguf.md; the block of
Q8_0 (32 weights: a float16 scale, then int8) is ggml's.
"""

import struct

import numpy as np

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
CODES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?",
         UINT64: "<Q", 11: "<q", 12: "<d"}
F32, F16, Q8_0, BF16 = 0, 1, 8, 30
ALIGNMENT = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, code):
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def string(self):
        length = self.take("<Q")
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def value(self, kind):
        return self.string() if kind == STRING else self.take(CODES[kind])

    def field(self):
        """((key), (type, value)) of one pair."""
        key, kind = self.string(), self.take("<I")
        if kind != ARRAY:
            return key, (kind, self.value(kind))
        element, count = self.take("<I"), self.take("<Q")
        return key, ((ARRAY, element), [self.value(element) for _ in range(count)])

    def place(self):
        """(name, shape outermost first, type, offset) of one tensor."""
        name = self.string()
        shape = [self.take("<Q") for _ in range(self.take("<I"))][::-1]
        return name, shape, self.take("<I"), self.take("<Q")


def unpacked(data, at, shape, kind):
    """float32 weights of a tensor that begins at a byte."""
    count = int(np.prod(shape))
    if kind == F32:
        flat = np.frombuffer(data, "<f4", count, at)
    elif kind == F16:
        flat = np.frombuffer(data, "<f2", count, at).astype(np.float32)
    elif kind == BF16:
        flat = (np.frombuffer(data, "<u2", count, at).astype(np.uint32) << 16).view(np.float32)
    else:
        assert kind == Q8_0, f"type {kind}"
        blocks = np.frombuffer(data, [("scale", "<f2"), ("q", "i1", 32)], count // 32, at)
        flat = (blocks["scale"].astype(np.float32)[:, None] * blocks["q"]).reshape(-1)
    return flat.reshape(shape)


def packed(array, kind):
    """The bytes of float32 weights in a type, each rounded to the nearest."""
    if kind == F32:
        return array.astype("<f4").tobytes()
    if kind == F16:
        return array.astype("<f2").tobytes()
    if kind == BF16:
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    blocks = np.empty(array.size // 32, [("scale", "<f2"), ("q", "i1", 32)])
    values = array.reshape(-1, 32)
    scale = np.abs(values).max(axis=1) / 127
    blocks["scale"] = scale
    blocks["q"] = np.rint(values / np.where(scale > 0, scale, 1)[:, None])
    return blocks.tobytes()


def read(path):
    data = path.read_bytes()
    reader = Reader(data)
    assert data[:4] == b"GGUF"
    reader.at = 4
    assert reader.take("<I") in (2, 3)
    tensors, pairs = reader.take("<Q"), reader.take("<Q")
    fields = dict(reader.field() for _ in range(pairs))
    places = [reader.place() for _ in range(tensors)]
    alignment = fields.get("general.alignment", (UINT32, ALIGNMENT))[1]
    start = -(-reader.at // alignment) * alignment
    return fields, {name: unpacked(data, start + offset, shape, kind)
                    for name, shape, kind, offset in places}


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def written(kind, value):
    return string(value) if kind == STRING else struct.pack(CODES[kind], value)


def write(path, fields, tensors, kind=F16):
    """`kind` is that of the matrices."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    for key, (form, value) in fields.items():
        head += string(key)
        if isinstance(form, tuple):
            head += struct.pack("<IIQ", *form, len(value))
            head += b"".join(written(form[1], each) for each in value)
        else:
            head += struct.pack("<I", form) + written(form, value)
    body = b""
    for name, array in tensors.items():
        this = F32 if array.ndim == 1 else kind
        head += string(name) + struct.pack("<I", array.ndim)
        head += struct.pack(f"<{array.ndim}Q", *array.shape[::-1]) + struct.pack("<IQ", this, len(body))
        blob = packed(array, this)
        body += blob + bytes(-len(blob) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + body)
    return path
