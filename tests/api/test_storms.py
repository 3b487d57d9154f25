"""Proves that storms are ridden out: two thousand connections that never send, slow clients beside
honest ones, many submitters and pollers at once. Prints what was measured; asserts memory, the absence
of failures and that the server is itself again."""

import re
import socket
import threading
import time

from front import request


SLOW = 56  # an address may hold 64 connections, and these are all of one


def resident(front):
    text = front.get("/metrics").body.decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)$", text, re.M)[1])


def times(calls):
    calls = sorted(calls)
    return calls[len(calls) // 2] * 1e3, calls[int(len(calls) * 0.99)] * 1e3


def timed(front, path):
    begun = time.monotonic()
    assert front.get(path).status == 200
    return time.monotonic() - begun


def test_two_thousand_silent_connections(serve, capsys):
    front = serve("", "--server-connections-per-address", "64")
    for _ in range(20):
        timed(front, "/healthz")
    before, held = resident(front), []
    try:
        for _ in range(2000):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", front.port))
            held.append(connection)
        time.sleep(0.5)
    finally:
        for connection in held:
            connection.close()
    begun = time.monotonic()
    while True:
        try:
            if front.get("/healthz", timeout=2).status == 200:
                break
        except OSError:
            assert time.monotonic() - begun < 5
    back = time.monotonic() - begun
    grown = resident(front) - before
    with capsys.disabled():
        print(f"\n  2,000 silent connections: {grown / 2**20:+.1f} MiB, back after {back * 1e3:.0f} ms")
    assert grown <= 32 * 2**20 and back <= 5


def test_honest_clients_beside_slow_ones(serve, capsys):
    front = serve()
    alone = times([timed(front, "/healthz") for _ in range(200)])
    slow, stop = [], threading.Event()
    for _ in range(SLOW):
        connection = socket.create_connection(("127.0.0.1", front.port), 5)
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        slow.append(connection)

    def drip():
        while not stop.wait(0.5):
            for connection in slow:
                try:
                    connection.send(b"a")
                except OSError:
                    pass

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        beside = times([timed(front, "/healthz") for _ in range(200)])
    finally:
        stop.set()
        dripping.join()
        for connection in slow:
            connection.close()
    with capsys.disabled():
        print(f"\n  honest calls: median {alone[0]:.1f} ms, 99 % {alone[1]:.1f} ms alone; median {beside[0]:.1f} ms, "
              f"99 % {beside[1]:.1f} ms beside {SLOW} slow ones")
    assert beside[0] <= 2 * alone[0] + 20, (alone, beside)


def test_many_submit_and_poll_at_once(serve, capsys):
    front = serve("", "--limits-requests-per-minute", "100000")
    lock, submits, polls, ids, failures = threading.Lock(), [], [], [], []
    end = time.monotonic() + 3

    def submit(number):
        count = 0
        while time.monotonic() < end:
            count += 1
            begun = time.monotonic()
            answer = front.post("/v1/jobs", request(seed=number * 100000 + count, steps=1))
            with lock:
                if answer.status == 202:
                    submits.append(time.monotonic() - begun)
                    ids.append(answer.json["id"])
                elif answer.status != 429:
                    failures.append(answer)

    def poll():
        while time.monotonic() < end:
            with lock:
                job = ids[-1] if ids else None
            if job:
                begun = time.monotonic()
                answer = front.get(f"/v1/jobs/{job}")
                with lock:
                    polls.append(time.monotonic() - begun)
                    if answer.status != 200:
                        failures.append(answer)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)] + \
        [threading.Thread(target=poll) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    with capsys.disabled():
        for name, calls in (("submits", submits), ("polls", polls)):
            median, late = times(calls)
            print(f"\n  one Python client: {len(calls) / 3:.0f} {name}/s, median {median:.0f} ms, 99 % {late:.0f} ms")
    for job in ids[-5:]:
        assert front.wait(job, seconds=60)["status"] == "succeeded"
