"""A `latentd serve` under test: started on an ephemeral loopback port with the scripted worker,
spoken to over HTTP or raw sockets, stopped by its own process id."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

START_SECONDS = 20


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Front:
    def __init__(self, latentd, folder, script="", *flags, env=None, ready=True):
        self.latentd, self.folder, self.script, self.flags = latentd, folder, script, flags
        self.env, self.process, self.port = env, None, None
        self.start(ready)

    # ---- Process ----

    def start(self, ready=True):
        self.log_path = self.folder / "front.log"
        self.log = open(self.log_path, "ab")
        command = [self.latentd, "serve", "--port", "0", "--state-dir", str(self.folder / "state"),
                   *([] if self.script is None else ["--script", self.script]), *self.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log,
                                        env={**os.environ, **(self.env or {})})
        try:
            line = self.process.stdout.readline().decode()
            found = re.search(r":(\d+)$", line.strip())
            assert found, f"no port in {line!r}: {self.log_text()[-2000:]}"
            self.port = int(found[1])
            if ready:
                self.wait_ready()
        except BaseException:
            self.kill()  # a front that did not come up has no fixture to end it
            raise

    def wait_ready(self, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_text()[-3000:]
            try:
                if self.get("/readyz").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("not ready: " + self.log_text()[-3000:])

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def worker_pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task")
        pids = []
        for task in children.iterdir():
            try:
                pids += [int(pid) for pid in (task / "children").read_text().split()]
            except OSError:
                pass
        return pids

    def worker_pid(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pids = self.worker_pids()
            if pids:
                return pids[0]
            time.sleep(0.01)
        raise AssertionError("no worker")

    def kill(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process.stdout.close()
        self.log.close()

    def stop(self, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
                raise
        if not self.log.closed:
            self.process.stdout.close()
            self.log.close()
        return self.process.returncode

    # ---- HTTP ----

    def call(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            sent = dict(headers or {})
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            if body is not None and not any(name.lower() == "content-type" for name in sent):
                sent["Content-Type"] = "application/json"
            sent = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.call("POST", path, body, **options)

    def raw(self, data, timeout=5, half_close=False):
        """Bytes on a fresh connection; everything that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.settimeout(timeout)
            received = b""
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while True:
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    received += piece
            except (ConnectionResetError, BrokenPipeError, socket.timeout):
                pass
            return received

    def one_reply(self, data, half_close=False):
        """Bytes on a fresh connection; the one reply to them, by its own length."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    # ---- Jobs ----

    def submit(self, **fields):
        answer = self.post("/v1/jobs", request(**fields))
        assert answer.status == 202, answer
        return answer.json["id"]

    def job(self, job_id):
        answer = self.get(f"/v1/jobs/{job_id}")
        assert answer.status == 200, answer
        return answer.json

    def wait(self, job_id, statuses=("succeeded", "failed", "cancelled", "expired"), seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["status"] in statuses:
                return job
            time.sleep(0.02)
        raise AssertionError(f"{job['status']}, wanted {statuses}: {self.log_text()[-3000:]}")

    def picture(self, job_id, number=0):
        answer = self.get(f"/v1/jobs/{job_id}/images/{number}")
        assert answer.status == 200, answer
        return answer.body


def request(**fields):
    return {"prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 1, **fields}


def read_events(front, path, last_id=None, until="done", limit=2000, timeout=20):
    """Events of a stream as (id, name, data), up to and with the first one called `until`."""
    headers = {"Last-Event-ID": str(last_id)} if last_id is not None else {}
    headers.update(getattr(front, "authorization", {}))
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=timeout)
    events = []
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("Content-Type").startswith("text/event-stream")
        fields = {}
        while len(events) < limit:
            line = answer.readline()
            if not line:
                break
            line = line.decode().rstrip("\n")
            if line.startswith(":") or line.startswith("retry:"):
                continue
            if line:
                name, value = line.split(": ", 1)
                fields[name] = value
                continue
            if "event" in fields:
                events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                if fields["event"] == until:
                    break
            fields = {}
    finally:
        connection.close()
    return events
