"""The C helpers of the training (attention.c, gate.c, norm.c), built on first use or None."""

import ctypes
import pathlib
import shutil
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
LIBRARY = []  # the loaded library, None where it could not be built; filled once


def library():
    if not LIBRARY:
        LIBRARY.append(None)
        compiler = shutil.which("cc")
        if compiler:
            out = pathlib.Path(tempfile.mkdtemp()) / "demo_model.so"
            sources = [str(HERE / name) for name in ("attention.c", "gate.c", "norm.c")]
            built = subprocess.run([compiler, "-std=gnu11", "-O3", "-march=native", "-fopenmp",
                                    "-fPIC", "-shared", *sources, "-o", str(out), "-lm"],
                                   check=False)
            if built.returncode == 0:
                LIBRARY[0] = ctypes.CDLL(str(out))
    return LIBRARY[0]


def call(name, tensors, *numbers):
    """Run one function: pointers of contiguous tensors, then ints and floats. Its int result."""
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    values = [ctypes.c_float(n) if isinstance(n, float) else ctypes.c_int(n) for n in numbers]
    return getattr(library(), name)(*pointers, *values)


def halves():
    """Whether this CPU multiplies bfloat16; without, PyTorch's is slower than its fp32."""
    cpu = pathlib.Path("/proc/cpuinfo")
    return cpu.exists() and "avx512_bf16" in cpu.read_text()
