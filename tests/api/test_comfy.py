"""Proves that clients of ComfyUI's protocol work unmodified: every point of api.md section 3 that is
about them, numbered as there; graphs of the stock nodes, the event socket, and what is refused."""

import base64
import copy
import io
import json
import os
import pathlib
import socket
import struct
import time
import uuid

import pytest
from PIL import Image, ImageChops

from front import Front
from test_a1111 import leave_at_once, until
from test_images import png
from test_keys import add, bearer


def graph(**changes):
    """ComfyUI's default text-to-image graph, small."""
    nodes = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "scripted.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 5, "steps": 4, "cfg": 6.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }
    nodes = copy.deepcopy(nodes)
    for place, value in changes.items():
        node, name = place.split("_", 1)
        nodes[node[1:]]["inputs"][name] = value
    return nodes


def post(front, nodes, headers=None, prefix="", **more):
    return front.post(prefix + "/prompt", {"prompt": nodes, **more}, headers=headers)


def finished(front, nodes, **more):
    answer = post(front, nodes, **more)
    assert answer.status == 200, answer
    prompt_id = answer.json["prompt_id"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        entry = front.get(f"/history/{prompt_id}").json
        if entry:
            assert list(entry) == [prompt_id]
            return entry[prompt_id]
        time.sleep(0.02)
    raise AssertionError("never in the history")


def newest(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]


def native(front, nodes, **more):
    finished(front, nodes, **more)
    return newest(front)["request"]


# ---- A WebSocket client ----

class Socket:
    def __init__(self, front, client_id, path="/ws", headers=""):
        self.connection = socket.create_connection(("127.0.0.1", front.port), 10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall((f"GET {path}?clientId={client_id} HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\n"
                                 f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                                 f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
                                 f"{headers}\r\n").encode())
        self.head, self.rest = b"", b""
        while b"\r\n\r\n" not in self.head:
            piece = self.connection.recv(4096)
            assert piece, self.head
            self.head += piece
        self.head, self.rest = self.head.split(b"\r\n\r\n", 1)

    def exactly(self, size):
        while len(self.rest) < size:
            piece = self.connection.recv(65536)
            if not piece:
                raise EOFError
            self.rest += piece
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def frame(self):
        first, second = self.exactly(2)
        size = second & 0x7F
        assert not second & 0x80 and not first & 0x70  # a server masks nothing and agreed to nothing
        if size == 126:
            size = struct.unpack(">H", self.exactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.exactly(8))[0]
        return first & 0x0F, self.exactly(size)

    def control(self):
        """The next ping, pong or close; news of other tests' jobs may come before it."""
        while True:
            opcode, payload = self.frame()
            if opcode >= 8:
                return opcode, payload

    def send(self, opcode, payload, masked=True):
        mask = os.urandom(4)
        body = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if masked else payload
        self.connection.sendall(bytes([0x80 | opcode, (0x80 if masked else 0) | len(payload)]) +
                                (mask if masked else b"") + body)

    def until(self, stop, seconds=15):
        """Messages up to and with the first for which stop(type, data) holds; binary ones as b"..."."""
        self.connection.settimeout(seconds)
        seen = []
        while True:
            opcode, payload = self.frame()
            if opcode == 2:
                seen.append(("binary", payload))
            elif opcode == 1:
                message = json.loads(payload)
                seen.append((message["type"], message["data"]))
                if stop(message["type"], message["data"]):
                    return seen

    def close(self):
        self.connection.close()


def over(kind, data):
    return kind == "executing" and data["node"] is None


# ---- The points ----

def test_point_20_json_without_a_content_type(front):
    body = json.dumps({"prompt": graph()}).encode()
    for kind in ("text/plain;charset=UTF-8", "application/octet-stream"):
        assert front.post("/prompt", body, headers={"Content-Type": kind}).status == 200
    bare = front.raw(b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                     % len(body) + body)
    assert bare.startswith(b"HTTP/1.1 200")
    assert front.post("/prompt", body, headers={"Content-Type": "text/plain", "Origin": f"http://127.0.0.1:{front.port}"}).status == 400


def test_point_22_no_error_member_in_good_answers(front):
    answer = post(front, graph())
    assert answer.status == 200 and set(answer.json) == {"prompt_id", "number", "node_errors"}
    assert answer.json["node_errors"] == {}


@pytest.mark.parametrize("path", ["/interrupt", "/queue", "/free", "/history"])
def test_point_23_posts_answer_with_an_object(front, path):
    for prefix in ("", "/api"):
        answer = front.post(prefix + path, {})
        assert answer.status == 200 and answer.json == {}, answer
    assert front.post(path).json == {}


def test_point_24_the_clients_prompt_id_is_kept(front):
    wanted = str(uuid.uuid4())
    answer = front.post("/prompt?clientId=abc", {"prompt": graph(), "prompt_id": wanted})
    assert answer.json["prompt_id"] == wanted
    assert front.get("/queue?clientId=abc").status == 200
    deadline = time.monotonic() + 20
    while not front.get(f"/history/{wanted}?clientId=abc").json and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(front.get(f"/history/{wanted}").json) == [wanted]


def test_point_25_history_is_empty_until_the_end_and_bounded(serve):
    front = serve("step_ms=30")
    answer = post(front, graph(n3_steps=30))
    prompt_id = answer.json["prompt_id"]
    assert front.get(f"/history/{prompt_id}").json == {}
    assert front.get("/history/nothing").json == {}
    queue = front.get("/queue").json
    assert [entry[1] for entry in queue["queue_running"] + queue["queue_pending"]] == [prompt_id]
    assert front.get("/prompt").json["exec_info"]["queue_remaining"] == 1
    front.wait(newest(front)["id"])
    entry = front.get(f"/history/{prompt_id}").json[prompt_id]
    assert entry["status"]["status_str"] == "success" and entry["status"]["completed"] is True
    assert entry["outputs"]["9"]["images"][0]["type"] == "output"
    ids = [finished(front, graph(n3_steps=1, n3_seed=seed))["prompt"][1] for seed in range(3)]
    assert list(front.get("/history?max_items=2").json) == [ids[2], ids[1]]
    assert set(front.get("/history").json) == {prompt_id, *ids}
    assert front.post("/history", {"delete": [prompt_id]}).json == {}
    assert front.get(f"/history/{prompt_id}").json == {}
    assert front.get("/prompt").json["exec_info"]["queue_remaining"] == 0


def test_point_26_view_by_name_only(front):
    image = finished(front, graph())["outputs"]["9"]["images"][0]
    name = image["filename"]
    for query in (f"filename={name}&subfolder=&type=output", f"filename={name}", f"type=output&filename={name}&preview=webp;90",
                  f"filename={name}&channel=rgb", f"filename={name.replace('_', '%5F')}"):
        for prefix in ("", "/api"):
            answer = front.get(f"{prefix}/view?{query}")
            assert answer.status == 200 and answer.body.startswith(b"\x89PNG"), query
    assert answer.body == front.picture(newest(front)["id"])
    for query in ("filename=..%2F..%2Fetc%2Fpasswd", "filename=/etc/passwd", f"filename={name}&subfolder=..",
                  "filename=" + "0" * 26 + "_0.png", f"filename={name[:26]}_9.png", f"filename={name}x/..",
                  "filename=" + "a" * 300):
        assert front.get("/view?" + query).status == 404, query
    assert front.get("/view").status == 400 and front.get(f"/view?filename={name}&channel=a").status == 400


def test_point_26_pictures_belong_to_their_owner(serve, latentd, tmp_path):
    front = serve()
    anna, ben = (bearer(add(latentd, tmp_path, name)) for name in ("anna", "ben"))
    answer = post(front, graph(), headers=anna)
    prompt_id = answer.json["prompt_id"]
    deadline = time.monotonic() + 20
    while not front.get(f"/history/{prompt_id}", headers=anna).json and time.monotonic() < deadline:
        time.sleep(0.02)
    name = front.get(f"/history/{prompt_id}", headers=anna).json[prompt_id]["outputs"]["9"]["images"][0]["filename"]
    assert front.get(f"/view?filename={name}", headers=anna).status == 200
    assert front.get(f"/view?filename={name}", headers=ben).status == 404
    assert front.get(f"/history/{prompt_id}", headers=ben).json == {}
    assert front.get("/history", headers=ben).json == {}
    refused = front.get("/queue")
    assert refused.status == 401 and refused.json["error"]["type"] == "unauthorized"


def test_point_27_with_and_without_api_and_whose_models(front):
    assert front.get("/models").json == front.get("/api/models").json
    assert "checkpoints" in front.get("/models").json
    assert front.get("/models", headers={"X-Stainless-Lang": "js"}).json["object"] == "list"
    assert front.get("/models/checkpoints").json == ["scripted.safetensors"]
    assert front.get("/models/loras").json == ["ink.safetensors"] and front.get("/models/none").status == 404
    assert front.get("/embeddings").json == ["bad"] == front.get("/api/embeddings").json
    assert post(front, graph(), prefix="/api").status == 200


def test_point_28_the_handshake(front):
    client = Socket(front, "me", headers="")
    assert client.head.startswith(b"HTTP/1.1 101")
    assert b"permessage-deflate" not in client.head and b"Sec-WebSocket-Protocol" not in client.head
    (kind, data), = client.until(lambda *_: True)
    assert kind == "status" and data["sid"] == "me" and "queue_remaining" in data["status"]["exec_info"]
    client.send(1, b'{"type": "feature_flags", "data": {}}')
    client.send(9, b"hello")
    assert client.control() == (10, b"hello")
    client.send(8, struct.pack(">H", 1000))
    assert client.control() == (8, struct.pack(">H", 1000))
    with pytest.raises(EOFError):
        client.frame()
    client.close()
    for headers in ({}, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                         "Sec-WebSocket-Key": "short"}):
        refused = front.get("/ws", headers=headers)
        assert refused.status == 426 and refused.headers["Upgrade"] == "websocket"


def test_point_28_a_client_id_that_comes_again_replaces_its_socket(front):
    old = Socket(front, "again")
    old.until(lambda *_: True)
    new = Socket(front, "again", path="/api/ws")
    new.until(lambda *_: True)
    assert old.control()[0] == 8
    with pytest.raises(EOFError):
        old.frame()
    answer = post(front, graph(), client_id="again")
    assert new.until(over)[-1][1]["prompt_id"] == answer.json["prompt_id"]
    old.close()
    new.close()


def test_frames_that_are_wrong_end_the_socket(front):
    wrong, long, unsaid = struct.pack(">H", 1002), struct.pack(">H", 1009), b""
    for bad, number in ((b"\x81\x02hi", wrong), (b"\xC1\x80\0\0\0\0", wrong), (b"\x83\x80\0\0\0\0", wrong),
                        (b"\x89\xFE\x01\x00\0\0\0\0", unsaid), (b"\x82\xFF\0\0\0\1" + bytes(9), long)):
        client = Socket(front, "bad")
        client.until(lambda *_: True)
        client.connection.sendall(bad)
        assert client.control() == (8, number), bad
        client.close()
    assert front.get("/healthz").status == 200


def test_the_server_stops_with_open_sockets(serve):
    front = serve()
    clients = [Socket(front, f"c{i}") for i in range(3)]
    began = time.monotonic()
    assert front.stop() == 0 and time.monotonic() - began < 10
    for client in clients:
        client.close()


def test_the_events_of_a_prompt(serve):
    front = serve("step_ms=20")
    client, other = Socket(front, "mine"), Socket(front, "other")
    answer = post(front, graph(n3_steps=9), client_id="mine")
    prompt_id = answer.json["prompt_id"]
    seen = client.until(over)
    kinds = [kind for kind, _ in seen]
    for kind in ("execution_start", "execution_cached", "executing", "progress", "progress_state", "executed",
                 "execution_success", "status"):
        assert kind in kinds, kind
    order = [kinds.index(kind) for kind in ("execution_start", "execution_cached", "executing", "progress", "executed",
                                            "execution_success")]
    assert order == sorted(order)
    assert all(data["prompt_id"] == prompt_id for kind, data in seen if kind not in ("status", "binary"))
    progress = [data for kind, data in seen if kind == "progress"]
    assert progress[-1]["max"] == 9 and progress[-1]["node"] == "3"
    executed = next(data for kind, data in seen if kind == "executed")
    assert executed["node"] == "9"
    name = executed["output"]["images"][0]["filename"]
    assert front.get(f"/view?filename={name}").body.startswith(b"\x89PNG")
    previews = [data for kind, data in seen if kind == "binary"]
    number, start = (1, b"\xff\xd8\xff") if "jpeg" in front.get("/version").json["formats"] else (2, b"\x89PN")
    assert previews and all(struct.unpack(">II", data[:8]) == (1, number) and data[8:11] == start for data in previews)
    post(front, graph(n3_steps=1), client_id="other")
    assert {kind for kind, _ in other.until(over)} & {"executed"}
    client.close()
    other.close()


def test_pictures_over_the_socket(front):
    nodes = graph()
    nodes["9"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
    client = Socket(front, "ws")
    post(front, nodes, client_id="ws")
    seen = client.until(over)
    node, picture = "", None
    for kind, data in seen:
        if kind == "executing":
            node = data["node"]
        elif kind == "binary" and node == "9":
            picture = data[8:]
    assert picture == front.picture(newest(front)["id"])
    client.close()


def test_failures_and_interruptions_are_told(serve):
    front = serve("step_ms=20")
    client = Socket(front, "me")
    post(front, graph(n3_steps=150), client_id="me")
    client.until(lambda kind, _: kind == "progress")
    assert front.post("/interrupt").json == {}
    seen = client.until(over)
    assert any(kind == "execution_interrupted" and data["node_id"] == "3" for kind, data in seen)
    assert newest(front)["status"] == "cancelled"
    client.close()


def test_a_failed_prompt_is_told(serve):
    front = serve("fail@1=numerical")
    client = Socket(front, "me")
    answer = post(front, graph(), client_id="me")
    seen = client.until(over)
    error = next(data for kind, data in seen if kind == "execution_error")
    assert error["exception_type"] == "numerical" and error["node_id"] == "3"
    entry = front.get("/history/" + answer.json["prompt_id"]).json[answer.json["prompt_id"]]
    assert entry["status"]["status_str"] == "error" and entry["outputs"] == {}
    client.close()


def test_point_29_object_info(front):
    info = front.get("/object_info").json
    assert {"KSampler", "CheckpointLoaderSimple", "UNETLoader", "VAELoader", "LoraLoader", "CLIPTextEncode",
            "CLIPSetLastLayer", "EmptyLatentImage", "LoadImage", "VAEEncode", "VAEDecode", "LatentUpscale", "SaveImage",
            "PreviewImage", "SaveImageWebsocket", "PatchModelAddDownscale", "ControlNetLoader", "ControlNetApplyAdvanced"} <= set(info)
    assert info["UNETLoader"]["input"]["required"]["unet_name"] == [[], {}]
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] == [["scripted.safetensors"], {}]
    assert info["LoraLoader"]["input"]["required"]["lora_name"] == [["ink.safetensors"], {}]
    sampler = info["KSampler"]["input"]["required"]
    assert "dpmpp_2m" in sampler["sampler_name"][0] and "karras" in sampler["scheduler"][0]
    assert isinstance(sampler["sampler_name"][1], dict)
    for name, node in info.items():
        assert node["name"] == name and node["input_order"]["required"] == list(node["input"]["required"])
        assert len(node["output"]) == len(node["output_name"]) == len(node["output_is_list"])
        for wanted in node["input"]["required"].values():
            assert isinstance(wanted[0], (str, list)) and isinstance(wanted[1], dict)
    assert list(front.get("/object_info/KSampler").json) == ["KSampler"]
    assert front.get("/object_info/Nothing").json == {}


def test_point_30_gpu_samplers_are_their_plain_names(front):
    for name in ("dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"):
        assert native(front, graph(n3_sampler_name=name + "_gpu"))["sampler"] == name


def test_point_31_other_graphs_are_refused_by_node(front):
    nodes = graph()
    nodes["20"] = {"class_type": "UltimateSDUpscale", "inputs": {}}
    nodes["21"] = {"class_type": "DiffControlNetLoader", "inputs": {}}
    refused = post(front, nodes)
    assert refused.status == 400 and refused.json["error"]["type"] == "prompt_outputs_failed_validation"
    errors = refused.json["node_errors"]
    assert set(errors) == {"20", "21"} and errors["20"]["class_type"] == "UltimateSDUpscale"
    assert errors["20"]["errors"][0]["type"] == "custom_validation_failed" and errors["20"]["dependent_outputs"] == []
    before = newest(front)["id"]
    for changes, node, kind in (({"n3_model": ["99", 0]}, "3", "bad_linked_input"), ({"n3_positive": ["4", 1]}, "3", "return_type_mismatch"),
                                ({"n3_steps": 0}, "3", "value_smaller_than_min"), ({"n3_cfg": 31}, "3", "value_bigger_than_max"),
                                ({"n3_steps": "many"}, "3", "invalid_input_type"), ({"n3_latent_image": 5}, "3", "bad_linked_input"),
                                ({"n3_seed": None}, "3", "required_input_missing"), ({"n3_denoise": 0.5}, "3", "custom_validation_failed")):
        refused = post(front, graph(**changes))
        assert refused.status == 400, (changes, refused)
        assert refused.json["node_errors"][node]["errors"][0]["type"] == kind, (changes, refused)
    assert newest(front)["id"] == before
    for body, kind in (({}, "no_prompt"), ({"prompt": {}}, "no_prompt"), ({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt")):
        refused = front.post("/prompt", body)
        assert refused.status == 400 and refused.json["error"]["type"] == kind, refused
    nodes = graph()
    del nodes["9"]
    assert post(front, nodes).json["error"]["type"] == "prompt_no_outputs"
    for changes in ({"n3_sampler_name": "nothing"}, {"n4_ckpt_name": "nothing.safetensors"}):
        refused = post(front, graph(**changes))
        assert refused.status == 400 and "nothing" in refused.json["error"]["details"], refused


# ---- What graphs mean ----

def test_the_default_graph(front):
    assert native(front, graph(n3_seed=2**64 - 1))["seed"] == str(2**64 - 1)
    request = native(front, graph(n3_seed=2**53 + 1))
    assert request["prompt"] == "a cat" and request["negative_prompt"] == "fog" and request["seed"] == 2**53 + 1
    assert request["steps"] == 4 and request["cfg_scale"] == 6.5 and request["sampler"] == "euler"
    assert request["scheduler"] == "normal" and request["profile"] == "comfy" and request["syntax"] == "comfy"
    assert request["noise"] == "cpu" and request["model"] == "scripted"


def test_adapters_clip_skip_and_deep_shrink(front):
    nodes = graph(n3_model=["12", 0], n6_clip=["11", 0], n7_clip=["11", 0])
    nodes["10"] = {"class_type": "LoraLoader", "inputs": {"model": ["4", 0], "clip": ["4", 1], "lora_name": "ink.safetensors",
                                                          "strength_model": 0.5, "strength_clip": 0.25}}
    nodes["11"] = {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["10", 1], "stop_at_clip_layer": -2}}
    nodes["12"] = {"class_type": "PatchModelAddDownscale", "inputs": {
        "model": ["10", 0], "block_number": 4, "downscale_factor": 2.0, "start_percent": 0, "end_percent": 0.3,
        "downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic"}}
    request = native(front, nodes)
    assert request["loras"][0]["weight"] == 0.5 and request["loras"][0]["text_weight"] == 0.25
    assert request["clip_skip"] == 2 and request["deep_shrink"]["block"] == 4


def test_two_samplers_are_two_passes(front):
    nodes = graph()
    nodes["10"] = {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "upscale_method": "bislerp", "scale_by": 1.5}}
    nodes["11"] = copy.deepcopy(nodes["3"])
    nodes["11"]["inputs"].update(latent_image=["10", 0], denoise=0.5, steps=3)
    nodes["8"]["inputs"]["samples"] = ["11", 0]
    hires = native(front, nodes)["hires"]
    assert hires["scale"] == 1.5 and hires["strength"] == 0.5 and hires["steps"] == 3 and hires["upscaler"] == "latent-bislerp"
    lost = graph()
    lost["10"] = {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "upscale_method": "bislerp", "scale_by": 1.5}}
    lost["8"]["inputs"]["samples"] = ["10", 0]
    assert post(front, lost).status == 400


def upload(front, picture, path="/upload/image"):
    form = (b'--x\r\nContent-Disposition: form-data; name="image"; filename="a b.png"\r\nContent-Type: image/png\r\n\r\n' +
            picture + b'\r\n--x\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--x--\r\n')
    return front.post(path, form, headers={"Content-Type": "multipart/form-data; boundary=x"})


def test_a_picture_to_begin_with(front):
    stored = upload(front, png(128, 64))
    assert stored.status == 200 and stored.json["type"] == "input" and stored.json["subfolder"] == ""
    name = stored.json["name"]
    assert front.get(f"/view?filename={name}&type=input").body == png(128, 64)
    nodes = graph(n3_denoise=0.6, n3_latent_image=["11", 0])
    nodes["10"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    nodes["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    del nodes["5"]
    request = native(front, nodes)
    assert request["init"]["strength"] == 0.6 and request["init"]["image"] == {"id": name[:26]}
    assert (request["width"], request["height"]) == (128, 64)
    assert name in front.get("/object_info/LoadImage").json["LoadImage"]["input"]["required"]["image"][0]
    nodes["12"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["10", 1]}}
    nodes["3"]["inputs"]["latent_image"] = ["12", 0]
    assert native(front, nodes)["init"]["mask_from"] == "transparent"
    nodes["10"]["inputs"]["image"] = "0" * 26 + ".png"
    refused = post(front, nodes)
    assert refused.status == 400 and refused.json["node_errors"]["10"]["errors"][0]["message"] == "Invalid image file"
    assert upload(front, b"GIF89a").status == 400


# ---- Masks ----

def rgba(width=64, height=64, colour=(200, 30, 60)):
    """Transparent on the left half."""
    picture = Image.new("RGBA", (width, height), (*colour, 255))
    picture.paste((*colour, 0), (0, 0, width // 2, height))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def upload_mask(front, mask, original, path="/upload/mask", headers=None):
    parts = [] if mask is None else [b'name="image"; filename="m.png"\r\nContent-Type: image/png\r\n\r\n' + mask]
    if original is not None:
        text = original if isinstance(original, str) else json.dumps(original)
        parts.append(b'name="original_ref"\r\n\r\n' + text.encode())
    parts += [b'name="type"\r\n\r\ninput', b'name="subfolder"\r\n\r\nclipspace', b'name="overwrite"\r\n\r\ntrue']
    form = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return front.post(path, form, headers={"Content-Type": "multipart/form-data; boundary=x", **(headers or {})})


def inpainting(name, masked=True, checkpoint="scripted.safetensors"):
    nodes = graph(n3_latent_image=["12" if masked else "11", 0], n4_ckpt_name=checkpoint)
    nodes["10"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    nodes["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    if masked:
        nodes["12"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["10", 1]}}
    del nodes["5"]
    return nodes


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_mask_for_a_picture(front, prefix):
    original = upload(front, png(64, 64)).json["name"]
    answer = upload_mask(front, rgba(), {"filename": original, "subfolder": "", "type": "input"}, prefix + "/upload/mask")
    assert answer.status == 200 and (answer.json["subfolder"], answer.json["type"]) == ("", "input"), answer
    name = answer.json["name"]
    init = native(front, inpainting(name))["init"]
    assert init["image"] == {"id": original[:26]} and init["mask"] == {"id": name[27:53]} != init["image"]
    assert init["mask_from"] == "transparent"
    assert native(front, inpainting(name + " [input]"))["init"]["mask"] == init["mask"]
    assert "mask" not in {k for k, v in native(front, inpainting(name, masked=False))["init"].items() if v}
    view = f"{prefix}/view?type=input&filename={name}"
    assert front.get(view + "&channel=rgb").body == png(64, 64) and front.get(view + "&channel=a").body == rgba()
    refused = front.get(view)
    assert refused.status == 400 and "channel" in refused.json["error"]["message"]
    again = upload_mask(front, rgba(colour=(1, 2, 3)), {"filename": name, "type": "input"})  # drawn anew over the same picture
    assert again.json["name"][:26] == original[:26] and again.json["name"] != name


def test_a_mask_for_a_finished_picture(front):
    entry = finished(front, graph())
    made = entry["outputs"]["9"]["images"][0]
    for reference in (made, {"filename": made["filename"]}):  # where nothing is said it is an output
        answer = upload_mask(front, rgba(), reference)
        assert answer.status == 200, answer
    request = native(front, inpainting(answer.json["name"]))
    assert request["init"]["mask"] and (request["width"], request["height"]) == (64, 64)
    picture = front.get(f"/view?type=input&channel=rgb&filename={answer.json['name']}")
    assert picture.body == front.get(f"/view?filename={made['filename']}").body


def test_masks_that_are_refused(front):
    original = upload(front, png(64, 64)).json["name"]
    good, nobody = {"filename": original, "type": "input"}, "0" * 26
    cases = [(None, good, "image"), (rgba(), None, "original_ref"), (b"GIF89a", good, "PNG"), (png(64, 64), good, "alpha"),
             (rgba(32, 64), good, "64x64"), (rgba(), "no json", "original_ref"), (rgba(), "[]", "original_ref"),
             (rgba(), {"type": "input"}, "filename"), (rgba(), {"filename": 3}, "filename"),
             (rgba(), {**good, "type": "models"}, "type"), (rgba(), {**good, "subfolder": "../x"}, "no picture"),
             (rgba(), {**good, "type": "output"}, "no picture"), (rgba(), {"filename": "../../etc/passwd", "type": "input"}, "no picture"),
             (rgba(), {"filename": nobody + ".png", "type": "input"}, "no picture"),
             (rgba(), {"filename": nobody + "_0.png"}, "no picture")]
    for mask, reference, word in cases:
        answer = upload_mask(front, mask, reference)
        assert answer.status == 400 and list(answer.json) == ["error", "node_errors"], (reference, answer)
        assert word in answer.json["error"]["details"], (word, answer)
    assert front.post("/upload/mask", b"{}").status == 400
    for name in (original[:26] + "_" + nobody + ".png", nobody + "_" + original[:26] + ".png", original[:26] + "_x.png"):
        refused = post(front, inpainting(name))
        assert refused.status == 400 and refused.json["node_errors"]["10"]["errors"][0]["message"] == "Invalid image file", name
        assert front.get(f"/view?type=input&channel=a&filename={name}").status == 404, name


def test_masks_are_each_keys_own(serve, latentd, tmp_path):
    a, b = (bearer(add(latentd, tmp_path, name)) for name in "ab")
    front = serve()
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png(64, 64) + b"\r\n--x--\r\n"
    original = front.post("/upload/image", form, headers={"Content-Type": "multipart/form-data; boundary=x", **a}).json["name"]
    job = front.post("/v1/jobs?wait=20", {"prompt": "a cat", "width": 64, "height": 64, "steps": 1}, headers=a).json["id"]
    for reference in ({"filename": original, "type": "input"}, {"filename": job + "_0.png", "type": "output"}):
        mine, theirs = (upload_mask(front, rgba(), reference, headers=key) for key in (a, b))
        assert mine.status == 200 and theirs.status == 400 and "no picture" in theirs.json["error"]["details"], reference
        assert post(front, inpainting(mine.json["name"]), headers=b).status == 400
        assert front.get(f"/view?type=input&channel=rgb&filename={mine.json['name']}", headers=b).status == 404
    assert upload_mask(front, rgba(), {"filename": original, "type": "input"}, headers={}).status == 401


def test_what_is_painted_under_a_mask(latentd, tmp_path):
    """The demo model: a name of two uploads paints what the one picture with that transparency does, and
    what the native request of the two does; the opaque half stays."""
    demo = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo_model/files/demo.safetensors"
    front = Front(latentd, tmp_path, None, "--model", str(demo))
    try:
        whole = rgba(colour=(40, 160, 220))
        original = io.BytesIO()
        Image.open(io.BytesIO(whole)).convert("RGB").save(original, "PNG")
        names = {"own": upload(front, whole).json["name"], "original": upload(front, original.getvalue()).json["name"]}
        names["both"] = upload_mask(front, rgba(colour=(0, 0, 0)), {"filename": names["original"], "type": "input"}).json["name"]
        painted = {}
        for which in ("own", "both"):
            image = finished(front, inpainting(names[which], checkpoint="demo.safetensors"))["outputs"]["9"]["images"][0]
            painted[which] = Image.open(io.BytesIO(front.get(f"/view?filename={image['filename']}").body)).convert("RGB")
        request = newest(front)["request"]
        answer = front.post("/v1/jobs", request, headers={"Accept": "image/png", "Content-Type": "application/json"})
        assert answer.status == 200, answer
        painted["native"] = Image.open(io.BytesIO(answer.body)).convert("RGB")
    finally:
        assert front.stop() == 0
    for other in ("own", "native"):
        assert ImageChops.difference(painted["both"], painted[other]).getbbox() is None, other
    before = Image.open(original).convert("RGB")
    left, right = (0, 0, 24, 64), (40, 0, 64, 64)
    assert ImageChops.difference(painted["both"], before).crop(left).getbbox()
    assert ImageChops.difference(painted["both"], before).crop(right).getbbox() is None


def test_a_picture_of_its_own_as_the_mask(front):
    picture, mask = (upload(front, body).json["name"] for body in (png(64, 64), rgba()))
    nodes = inpainting(picture)
    nodes["13"] = {"class_type": "LoadImageMask", "inputs": {"image": mask, "channel": "red"}}
    nodes["12"]["inputs"]["mask"] = ["13", 0]
    for channel, inverted, wanted in (("red", 0, "white"), ("green", 1, "black"), ("alpha", 0, "transparent"),
                                      ("alpha", 1, "opaque"), ("blue", 2, "white")):
        nodes["13"]["inputs"]["channel"] = channel
        for i in range(inverted):
            nodes[f"2{i}"] = {"class_type": "InvertMask", "inputs": {"mask": [f"2{i - 1}" if i else "13", 0]}}
        nodes["12"]["inputs"]["mask"] = [f"2{inverted - 1}" if inverted else "13", 0]
        init = native(front, nodes)["init"]
        assert init["mask"] == {"id": mask[:26]} and init["mask_from"] == wanted, (channel, inverted)
    nodes["13"]["inputs"]["image"] = "0" * 26 + ".png"
    refused = post(front, nodes)
    assert refused.status == 400 and refused.json["node_errors"]["13"]["errors"][0]["message"] == "Invalid image file"
    nodes["13"]["inputs"].update(image=mask, channel="luma")
    assert post(front, nodes).json["node_errors"]["13"]["errors"][0]["type"] == "value_not_in_list"


def test_a_loaded_picture_is_cropped_or_stretched(front):
    nodes = inpainting(upload(front, png(128, 64)).json["name"], masked=False)
    nodes["12"] = {"class_type": "ImageScale", "inputs": {"image": ["10", 0], "upscale_method": "lanczos", "width": 64,
                                                          "height": 64, "crop": "center"}}
    nodes["11"]["inputs"]["pixels"] = ["12", 0]
    request = native(front, nodes)
    assert request["init"]["resize"] == "crop" and (request["width"], request["height"]) == (64, 64)
    nodes["12"]["inputs"]["crop"] = "disabled"
    assert native(front, nodes)["init"]["resize"] == "stretch"


SECOND = {"scale": 1.5, "strength": 0.5, "steps": 2}


@pytest.fixture(scope="module")
def demo(latentd, tmp_path_factory):
    files = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo_model/files"
    front = Front(latentd, tmp_path_factory.mktemp("demo"), None, "--model", str(files / "demo.safetensors"),
                  "--adapter-dir", str(files / "adapters"))
    yield front
    assert front.stop() == 0


@pytest.mark.parametrize("fields", [
    {"hires": {**SECOND, "upscaler": "latent-bicubic"}},
    {"hires": {**SECOND, "upscaler": "pixel-lanczos"}},
    {"hires": {"width": 96, "height": 128, "strength": 0.5, "upscaler": "latent-area"}},
    {"hires": {**SECOND, "prompt": "blue fish, (beach:1.2)", "negative_prompt": "fog", "sampler": "dpmpp_2m",
               "scheduler": "karras", "cfg_scale": 4}},
    {"loras": [{"name": "demo-sketch", "weight": 0.7}], "hires": {**SECOND, "loras": []}},
    {"hires": {**SECOND, "loras": [{"name": "demo-golden", "weight": 0.7}, {"name": "demo-sketch", "text_weight": 0}]}},
    {"deep_shrink": {"end": 0.5}, "guidance": {"rescale": 0.5}, "hires": {**SECOND, "upscaler": "pixel-area"}},
    {"init": {"strength": 0.6}},
    {"init": {"strength": 0.8, "mask": rgba(), "mask_from": "transparent"}},
    {"init": {"strength": 0.8, "mask": rgba(), "mask_from": "opaque"}},
    {"init": {"strength": 1, "mask": png(64, 64), "mask_from": "white"}, "hires": SECOND},
    {"width": 96, "init": {"strength": 0.6, "resize": "crop"}},
], ids=lambda fields: "+".join(fields) + ":" + ",".join(k for v in fields.values() if isinstance(v, dict) for k in v))
def test_a_pictures_own_graph_paints_its_bytes(demo, fields):
    fields = json.loads(json.dumps(fields, default=lambda data: {"base64": base64.b64encode(data).decode()}))
    if "init" in fields:
        fields["init"]["image"] = {"base64": base64.b64encode(rgba(colour=(40, 160, 220))).decode()}
    request = {"prompt": "red cat, night sky", "negative_prompt": "snow", "width": 64, "height": 64, "steps": 3, "seed": 7,
               "cfg_scale": 5, "sampler": "euler", "scheduler": "simple", "syntax": "comfy", **fields}
    answer = demo.post("/v1/jobs", request, headers={"Accept": "image/png"})
    assert answer.status == 200, answer
    told = newest(demo)["warnings"]
    nodes = json.loads(Image.open(io.BytesIO(answer.body)).text["prompt"])
    made = [n for n, node in nodes.items() if node["class_type"] == "SaveImage"]
    entry = finished(demo, nodes)
    assert entry["status"]["status_str"] == "success", entry
    image = entry["outputs"][made[0]]["images"][0]
    assert newest(demo)["warnings"] == told  # of sizes; of nothing that was left out
    assert demo.get(f"/view?filename={image['filename']}").body == answer.body


def test_batches_and_previews(front):
    entry = finished(front, graph(n5_batch_size=3))
    assert len(entry["outputs"]["9"]["images"]) == 3
    job = front.get("/v1/jobs?limit=1").json["jobs"][0]
    assert job["request"]["images"] == 3 and job["request"]["batch"] == {"size": 3}
    assert {image["seed"] for image in job["images"]} == {job["request"]["seed"]}
    assert not any("batch" in warning for warning in job["warnings"])
    nodes = graph()
    nodes["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    assert finished(front, nodes)["outputs"]["9"]["images"][0]["type"] == "temp"


def test_the_queue_is_cleared_and_thinned(serve):
    front = serve("step_ms=100", "--worker-jobs", "1")
    ids = [post(front, graph(n3_steps=100, n3_seed=i)).json["prompt_id"] for i in range(4)]
    deadline = time.monotonic() + 10
    while not front.get("/queue").json["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert front.post("/queue", {"delete": [ids[2]]}).json == {}
    assert [entry[1] for entry in front.get("/queue").json["queue_pending"]] == [ids[1], ids[3]]
    front.post("/queue", {"clear": True})
    assert front.get("/queue").json["queue_pending"] == []
    front.post("/interrupt", {"prompt_id": "nothing"})
    assert front.get("/queue").json["queue_running"]
    front.post("/interrupt", {"prompt_id": ids[0]})
    deadline = time.monotonic() + 10
    while front.get("/queue").json["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert front.get(f"/history/{ids[0]}").json[ids[0]]["status"]["status_str"] == "error"


def test_what_clients_look_at(front):
    stats = front.get("/system_stats").json
    assert stats["devices"][0]["name"] and "comfyui_version" in stats["system"]
    assert "max_upload_size" in front.get("/features").json
    assert front.get("/api/extensions").json == []


def test_a_graph_stays_although_its_client_left_at_once(serve):
    front = serve("step_ms=5")
    leave_at_once(front, "/prompt", [{"prompt": graph(n3_seed=number)} for number in range(30)])
    jobs = lambda: front.get("/v1/jobs?limit=100").json["jobs"]
    until(lambda: len(jobs()) > 0 and {job["status"] for job in jobs()} == {"succeeded"})
