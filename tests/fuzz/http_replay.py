#!/usr/bin/env python3
"""Proves that damaged traffic hurts nobody (robustness.md H13): valid requests of every interface, some
in one connection, with one byte in a hundred flipped, are sent to a whole front with its scripted
worker, best a build with sanitizers. Every connection gets replies of 2xx to 5xx or is closed, never
silence; the front never ends by itself, and says nothing of a sanitizer until its own end.

    tests/fuzz/http_replay.py LATENTD [--seconds 20] [--seed 1] [--clients 4]
"""

import argparse
import base64
import collections
import json
import pathlib
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front, request  # noqa: E402

FLIPPED = 0.01
SILENCE_S = 25  # beyond the deadline of a body
REPORTS = ("ERROR: AddressSanitizer", "runtime error", "ERROR: LeakSanitizer", "SUMMARY:")


# ---- Valid traffic ----------------------------------------------------------------------------------

def picture(side=64):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(side * 3) for _ in range(side))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def http(method, target, body=b"", kind="application/json", *lines):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *lines]
    if body or method == "POST":
        head += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(target, body):
    pieces = [body[at:at + 40] for at in range(0, len(body), 40)]
    return (f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n").encode() + \
        b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def form(fields, png):
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields)
    return (parts + '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
            "Content-Type: image/png\r\n\r\n").encode() + png + b"\r\n--x--\r\n"


def masked(opcode, payload):
    mask = b"\x11\x22\x33\x44"
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def traffic(front):
    """One of everything that clients send; ids of real jobs among them."""
    png, boundary = picture(), "multipart/form-data; boundary=x"
    inline = base64.b64encode(png).decode()
    job = front.submit(steps=2)
    front.wait(job)
    native = {**request(steps=2), "negative_prompt": "b", "sampler": "euler", "cfg_scale": 5.5, "user_data": {"a": [1, "\u00e9"]}}
    graph = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m"}},
             "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["1", 1]}},
             "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
             "4": {"class_type": "KSampler", "inputs": {
                 "seed": 1, "steps": 2, "cfg": 5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
                 "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}},
             "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
             "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "a"}}}
    upgrade = ("GET /ws?clientId=abc HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    small = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
    sent = [http("GET", target) for target in (
        "/", "/healthz", "/readyz", "/version", "/metrics", "/openapi.json", "/v1/models", "/v1/samplers", "/v1/me",
        "/v1/jobs?limit=5&status=succeeded", f"/v1/jobs/{job}", f"/v1/jobs/{job}/images/0", f"/v1/jobs/{job}/events",
        "/v1/tags?q=cat&limit=5", "/v1/admin/queue", "/v1/images", "/sdapi/v1/progress?skip_current_image=true",
        "/sdapi/v1/options", "/history?max_items=3", "/queue", "/object_info/KSampler", f"/view?filename={job}.png&type=output",
        "/view?filename=a", "/view?filename=a.png&type=input",
        "/user/subscription", "/ai/generate-image/suggest-tags?model=a&prompt=cat")]
    sent += [
        http("POST", "/v1/jobs", native),
        http("POST", "/v1/jobs?wait=2", native, "application/json", "Prefer: wait=2", "Accept: image/png"),
        http("POST", "/v1/jobs", {**native, "init_image": inline, "strength": 0.5}, "application/json", "Idempotency-Key: k1"),
        http("POST", "/v1/jobs", {**small, "sweep": {"x": {"field": "seed", "values": [1, 2]}}}),
        http("POST", "/v1/plan", native), chunked("/v1/plan", json.dumps(native).encode()),
        http("POST", "/v1/prompt/parse", {"prompt": "(a:1.2) [b|c] {d} <lora:e:0.5> AND f", "grammar": "a1111"}),
        http("POST", "/v1/images", png, "image/png"), http("POST", "/v1/images", form([], png), boundary),
        http("POST", "/v1/png-info", png, "image/png"), http("POST", "/v1/replay", png, "image/png"),
        http("POST", f"/v1/jobs/{job}/cancel", {}),
        http("POST", "/sdapi/v1/txt2img", {**small, "sampler_name": "Euler a", "cfg_scale": 5, "seed": 3}),
        http("POST", "/sdapi/v1/img2img", {**small, "init_images": [inline], "denoising_strength": 0.4}),
        http("POST", "/sdapi/v1/png-info", {"image": "data:image/png;base64," + inline}),
        http("POST", "/v1/images/generations", {"prompt": "a", "n": 1, "size": "64x64", "response_format": "b64_json"}),
        http("POST", "/v1/images/edits", form([("prompt", "a"), ("size", "64x64")], png), boundary),
        http("POST", "/ai/generate-image", {"input": "a", "model": "nai-diffusion", "action": "generate", "parameters": {
            "width": 64, "height": 64, "steps": 1, "scale": 5, "sampler": "k_euler", "seed": 1, "n_samples": 1}}),
        http("POST", "/prompt", {"prompt": graph, "client_id": "abc"}), http("POST", "/queue", {"clear": True}),
        http("POST", "/upload/image", form([("type", "input")], png), boundary),
        http("OPTIONS", "/v1/jobs", b"", "", "Origin: http://localhost", "Access-Control-Request-Method: POST"),
        upgrade + masked(1, b'{"type":"feature_flags","data":{}}') + masked(9, b"ping") + masked(8, b"\x03\xe8"),
    ]
    return sent


# ---- Damage -----------------------------------------------------------------------------------------

def flip(data, chance):
    damaged = bytearray(data)
    # Positions by their distances: a body of 10 KB costs no 10,000 draws.
    at = int(chance.expovariate(FLIPPED))
    while at < len(damaged):
        damaged[at] ^= chance.randrange(1, 256)
        at += 1 + int(chance.expovariate(FLIPPED))
    return bytes(damaged)


class Replay:
    def __init__(self, front, seed):
        self.front, self.seed = front, seed
        self.sent = traffic(front)
        self.lock, self.statuses, self.count, self.faults = threading.Lock(), collections.Counter(), 0, []

    def one(self, chance):
        data = b"".join(flip(chance.choice(self.sent), chance) for _ in range(chance.choice((1, 1, 1, 2, 3))))
        received = b""
        with socket.create_connection(("127.0.0.1", self.front.port), 10) as connection:
            connection.settimeout(SILENCE_S)
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
            except socket.timeout:
                if not received:
                    return data, "silence"
        for status in re.findall(rb"HTTP/1\.1 (\d+) ", received[:64]):
            with self.lock:
                self.statuses[int(status)] += 1
                if int(status) == 500:
                    return data, "500"
            if not 200 <= int(status) <= 599 and int(status) not in (100, 101):
                return data, f"status {int(status)}"
        if received and not received.startswith(b"HTTP/1.1 "):
            return data, f"answer {received[:40]!r}"
        return None

    def client(self, number, end):
        chance = random.Random(self.seed * 1000 + number)
        while time.monotonic() < end and len(self.faults) < 5:
            try:
                fault = self.one(chance)
            except OSError as error:
                fault = (b"", f"no connection: {error}")
            with self.lock:
                self.count += 1
                if fault:
                    self.faults.append(fault)

    def run(self, seconds, clients):
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(number, end)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("latentd")
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--clients", type=int, default=4)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        front = Front(options.latentd, pathlib.Path(folder), "step_ms=1", "--limits-requests-per-minute", "100000")
        replay = Replay(front, options.seed)
        replay.run(options.seconds, options.clients)
        alive = front.process.poll() is None and front.get("/healthz").status == 200
        status = front.stop(60)
        log = front.log_text()
    families = collections.Counter(f"{status // 100}xx" for status in replay.statuses.elements())
    reports = sum(log.count(report) for report in REPORTS)
    print(f"{replay.count} damaged connections in {options.seconds:.0f} s: " +
          ", ".join(f"{count} {family}" for family, count in sorted(families.items())) +
          f"; {len(replay.faults)} silent or wrong, {reports} sanitizer reports, the front {'lives' if alive else 'died'}")
    for data, fault in replay.faults:
        print(f"FAIL {fault}: {data[:2000]!r}")
    if reports:
        print(log[-4000:])
    good = alive and status == 0 and not replay.faults and not reports
    print(f"{int(good)} passed, {int(not good)} failed")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
