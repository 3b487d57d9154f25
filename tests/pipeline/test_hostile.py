"""Proves what a hostile picture costs the worker that decodes it: it is refused, its job fails with one
sentence, or what is hostile lies where no pixel is and is not read; the worker lives, its memory grows by
no more than the largest picture takes, and it takes no longer than that. The figures are printed."""

import base64
import json
import pathlib
import struct
import time
import zlib

MIB = 1 << 20
SIDE = 4096  # 16.8 megapixels, the most that may be declared
GROWTH_MAX = 64 * MIB


def chunk(kind, body, crc=0):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ crc)


def head(width=SIDE, height=SIDE, depth=8, colour=2, interlace=0):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def whole(side, colour=2, fill=b"\0\0\0", extra=b"", crc=0):
    rows = zlib.compress((b"\0" + fill * side) * side, 9)
    return head(side, side, 8, colour) + extra + chunk(b"IDAT", rows, crc) + chunk(b"IEND", b"")


def hostile():
    """Name, bytes, and how it ends; the front tells from the first bytes."""
    zeros = zlib.compress(bytes(64 * MIB), 9)  # 1000 to 1
    end = chunk(b"IEND", b"")
    picture = whole(SIDE)
    yield "16384 x 16384, 1000 to 1", head(16384, 16384) + chunk(b"IDAT", zeros) + end, "refused"
    yield "no width", head(0, 64) + chunk(b"IDAT", zeros[:100]) + end, "refused"
    yield "interlaced", head(interlace=1) + chunk(b"IDAT", zeros) + end, "refused"
    yield "64 x 64 with 64 MiB of rows behind them", head(64, 64) + chunk(b"IDAT", zeros) + end, "succeeded"
    yield "rows cut in the middle", picture[:len(picture) // 2], "failed"
    yield "the sum of a chunk is wrong", whole(SIDE, crc=1), "failed"
    yield "a palette of two colours, index 255 everywhere", whole(
        SIDE, 3, b"\xff", chunk(b"PLTE", bytes(6))), "failed"
    yield "a text of 64 MiB in 64 KiB", whole(64, extra=chunk(b"zTXt", b"parameters\0\0" + zeros)), "succeeded"
    yield "a chunk that claims 2 GiB", head() + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + zeros, "failed"
    yield "no rows at all", head() + end, "failed"


def peak(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def enlarge(server, picture):
    body = {"upscale": {"image": {"base64": base64.b64encode(picture).decode()}, "scale": 1}}
    began = time.monotonic()
    status, _, answer = server.post("/v1/jobs?wait=120", body)
    return status, json.loads(answer), time.monotonic() - began


def test_hostile_pictures_cost_a_worker_little(serve):
    server = serve()
    status, job, honest = enlarge(server, whole(SIDE))
    assert status == 200 and job["status"] == "succeeded"
    (pid,) = server.worker_pids()
    for name, picture, end in hostile():
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        before = peak(pid, "VmRSS:")
        status, answer, seconds = enlarge(server, picture)
        grown = peak(pid, "VmHWM:") - before
        print(f"{name}: {status}, {grown / MIB:.1f} MiB, {seconds / honest:.2f} of the largest picture's time")
        assert server.worker_pids() == [pid], name
        assert grown <= GROWTH_MAX, name
        assert seconds < 2 * honest, name
        if end == "refused":
            assert status in (413, 415, 422), (name, answer)
        else:
            assert (status, answer["status"]) == (200, end), (name, answer)
            assert end == "succeeded" or answer["error"]["detail"], name
