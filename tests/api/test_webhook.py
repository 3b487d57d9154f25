"""Proves that a job's end, or what else of its life it chose, is told to a listed host, signed and without
the prompt, that a failed call comes again, and that everything else is refused at submit. A real TLS server on loopback listens."""

import hashlib
import hmac
import http.server
import json
import ssl
import subprocess
import threading
import time

import pytest

SECRET = "a secret of this test, 32 bytes."


class Listener:
    def __init__(self, folder, answers):
        self.calls, answers = [], list(answers)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                       check=True, capture_output=True)
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.calls.append((time.monotonic(), self.path, dict(self.headers), body))
                self.send_response(answers.pop(0) if answers else 200)
                self.send_header("Location", "https://localhost:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count, seconds=15):
        deadline = time.monotonic() + seconds
        while len(self.calls) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.calls) >= count, self.calls


@pytest.fixture
def hooked(serve, tmp_path):
    """hooked(*answers) starts a listener and a front that may call it."""
    listeners = []

    def start(*answers, private=True):
        folder = tmp_path / f"hooked{len(listeners)}"
        folder.mkdir()
        listener = Listener(folder, answers)
        listeners.append(listener)
        (folder / "secret").write_text(SECRET + "\n")
        host = f"localhost:{listener.port}"
        front = serve("", "--webhooks-hosts", host, "--webhooks-secret-file", str(folder / "secret"),
                      "--webhooks-ca-file", str(folder / "cert.pem"),
                      *(["--webhooks-private-hosts", host] if private else []), folder=folder)
        time.sleep(1.2)  # the sender is started within a second
        return front, listener, f"https://{host}/hook?x=1"

    yield start
    for listener in listeners:
        listener.server.shutdown()


def test_the_end_is_told_signed_and_without_the_prompt(hooked):
    front, listener, url = hooked()
    canary = "canary8812"
    job = front.submit(prompt=canary, webhook={"url": url}, tag="mine", user_data={"n": 1})
    front.wait(job)
    listener.wait(1)
    _, path, headers, body = listener.calls[0]
    assert path == "/hook?x=1" and canary.encode() not in body
    told = json.loads(body)
    assert told["event"] == "done" and told["id"] == job and told["status"] == "succeeded"
    assert told["tag"] == "mine" and told["user_data"] == {"n": 1}
    assert told["images"][0]["sha256"] == front.job(job)["images"][0]["sha256"]
    fields = dict(part.split("=", 1) for part in headers["Latentd-Signature"].split(","))
    assert abs(int(fields["t"]) - time.time()) < 60
    wanted = hmac.new(SECRET.encode(), fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert fields["v1"] == wanted
    assert SECRET not in front.log_text() and SECRET not in front.get("/metrics").body.decode()


def events_of(listener):
    told = [json.loads(body) for *_, body in listener.calls]
    return [entry["event"] for entry in sorted(told, key=lambda entry: entry["event_id"])], told


def test_a_job_chooses_what_is_told(hooked):
    front, listener, url = hooked()
    canary = "canary8813"
    job = front.submit(prompt=canary, images=2, tag="mine",
                       webhook={"url": url, "events": ["done", "queued", "running", "image"]})
    front.wait(job)
    listener.wait(5)
    names, told = events_of(listener)
    assert names == ["queued", "running", "image", "image", "done"]
    assert len({entry["event_id"] for entry in told}) == 5
    for entry in told:
        assert entry["id"] == job and entry["tag"] == "mine" and canary not in json.dumps(entry)
    pictures = sorted(entry["image"]["sha256"] for entry in told if entry["event"] == "image")
    assert pictures == sorted(image["sha256"] for image in front.job(job)["images"])
    assert all("Latentd-Signature" in headers for _, _, headers, _ in listener.calls)
    assert front.job(job)["request"]["webhook"] == {"url": url, "events": ["queued", "running", "image", "done"]}


def test_an_end_of_another_kind_is_not_told(hooked):
    front, listener, url = hooked()
    front.wait(front.submit(webhook={"url": url, "events": ["failed", "cancelled"]}))
    last = front.submit(webhook={"url": url, "events": ["succeeded"]})
    front.wait(last)
    listener.wait(1)
    time.sleep(0.5)
    _, told = events_of(listener)
    assert [(entry["id"], entry["event"], entry["status"]) for entry in told] == [(last, "done", "succeeded")]


@pytest.mark.parametrize("events, sentence", [
    ([], "webhook.events must have at least one word"),
    (["end"], "webhook.events must be one of queued, running, image, succeeded, failed, cancelled, done"),
    (["runing"], "did you mean running?"),
    (["done", "done"], "webhook.events has done twice"),
    ("done", "webhook.events must be an array of words"),
    ([1], "webhook.events must be an array of words"),
])
def test_events_that_are_none_are_refused_by_name(hooked, events, sentence):
    front, _, url = hooked()
    answer = front.post("/v1/jobs", {"prompt": "a", "webhook": {"url": url, "events": events}})
    assert answer.status == 422 and answer.json["errors"][0]["pointer"].startswith("/webhook/events"), answer
    assert sentence in answer.json["errors"][0]["message"], answer


def test_events_without_a_url_are_refused(hooked):
    front, _, _ = hooked()
    answer = front.post("/v1/jobs", {"prompt": "a", "webhook": {"events": ["done"]}})
    assert answer.status == 422 and answer.json["errors"] == [
        {"pointer": "/webhook/url", "message": "webhook.url is required beside webhook.events"}], answer


def test_a_failed_call_comes_again_and_a_redirect_is_not_followed(hooked):
    front, listener, url = hooked(503)
    front.wait(front.submit(webhook={"url": url}))
    listener.wait(2)
    assert listener.calls[1][0] - listener.calls[0][0] >= 0.9
    assert listener.calls[0][3] == listener.calls[1][3]
    front, listener, url = hooked(302)
    front.wait(front.submit(webhook={"url": url}))
    listener.wait(1)
    time.sleep(2.5)
    assert len(listener.calls) == 1
    counts = front.get("/metrics").body.decode()
    assert 'latentd_webhooks_total{outcome="failed"} 1' in counts


def test_a_private_address_is_not_called_unless_listed(hooked):
    front, listener, url = hooked(private=False)
    front.wait(front.submit(webhook={"url": url}))
    time.sleep(1.5)
    assert not listener.calls
    assert "no address that may be called" in front.log_text()


def test_other_hosts_are_refused_at_submit(hooked, serve, tmp_path):
    front, _, url = hooked()
    for bad in ("https://example.com/", "http://localhost/", "https://127.0.0.1/", url.replace("https", "http"),
                "https://localhost/", 7):
        answer = front.post("/v1/jobs", {"prompt": "a", "webhook": {"url": bad}})
        assert answer.status == 422 and answer.json["errors"][0]["pointer"] == "/webhook/url", answer
    (tmp_path / "other").mkdir()
    plain = serve("", folder=tmp_path / "other")
    answer = plain.post("/v1/jobs", {"prompt": "a", "webhook": {"url": url}})
    assert answer.status == 422 and answer.json["errors"][0]["pointer"] == "/webhook/url"


def test_the_front_itself_connects_to_nobody(hooked):
    """The sender is a process of its own, and the only one that holds the secret."""
    front, listener, url = hooked()
    front.wait(front.submit(webhook={"url": url}))
    listener.wait(1)
    senders = []
    for pid in front.worker_pids():
        if b"webhook" in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[:2]:
            senders.append(pid)
    assert len(senders) == 1
    ours = open(f"/proc/{front.process.pid}/net/tcp").read()
    assert ours  # the table is that of the machine; whose sockets they are stands in fd/
    remote = f"{listener.port:04X}"
    inodes = {line.split()[9] for line in ours.splitlines()[1:] if line.split()[2].endswith(":" + remote)}
    import os
    held = set()
    for fd in os.listdir(f"/proc/{front.process.pid}/fd"):
        try:
            held.add(os.readlink(f"/proc/{front.process.pid}/fd/{fd}"))
        except OSError:
            pass
    assert not any(f"socket:[{inode}]" in held for inode in inodes)
