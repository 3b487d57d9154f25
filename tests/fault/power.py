#!/usr/bin/env python3
"""Proves that what was acknowledged survives a power loss, if the disk honours flushes. Every change that
the server makes below its state folder is recorded (preload.c) while jobs run. Then, at points spread
over the record, disks are made as a power loss might leave them: what was flushed is there, of every
other write, truncation, new name, renaming and removal any subset. Each such disk must hold a sound
database with every job acknowledged until then, and whole pictures for every job that it calls done.

    tests/fault/power.py LATENTD [--images 400] [--jobs 30] [--seed 1]

Model: a flush of a file keeps its bytes, a flush of a folder its names; nothing else keeps anything.
Writes are lost whole. The shared-memory file of SQLite is no part of the disk's state.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front, request  # noqa: E402

import shim as faults  # noqa: E402

SUCCEEDED = 2


class File:
    """Flushed bytes, and what was done since."""

    def __init__(self):
        self.kept, self.pending = b"", []

    def bytes(self, chosen):
        data = bytearray(self.kept)
        for change in chosen:
            kind, at, piece = change
            if kind == "t":
                del data[at:]
                data.extend(bytes(at - len(data)))
            else:
                data.extend(bytes(max(0, at - len(data))))
                data[at:at + len(piece)] = piece
        return bytes(data)

    def flush(self):
        self.kept, self.pending = self.bytes(self.pending), []


class Disk:
    """Names are absolute paths; a folder's value is None."""

    def __init__(self):
        self.names, self.kept, self.pending = {}, {}, []  # now; flushed; (folder, [(name, value)...]) since

    def note(self, *changes):
        for name, value in changes:
            if value is KeyError:
                self.names.pop(name, None)
            else:
                self.names[name] = value
        self.pending.append(({name.rsplit("/", 1)[0] for name, _ in changes}, changes))

    def apply(self, op, at, path, second, data):
        if op == "c":
            self.note((path, File()))
        elif op == "m":
            self.note((path, None))
        elif op == "u":
            self.note((path, KeyError))
        elif op == "r":
            self.note((second, self.names[path]), (path, KeyError))
        elif op == "s" and isinstance(self.names.get(path), File):
            self.names[path].flush()
        elif op == "s":
            left = []
            for folders, changes in self.pending:  # a renaming between two folders is one change
                if path in folders:
                    self.keep(self.kept, changes)
                else:
                    left.append((folders, changes))
            self.pending = left
        elif isinstance(self.names.get(path), File):
            self.names[path].pending.append((op, at, data))

    @staticmethod
    def keep(names, changes):
        for name, value in changes:
            if value is KeyError:
                names.pop(name, None)
            else:
                names[name] = value

    def after_power_loss(self, chance, root, to):
        """One disk that may be left, below `to`."""
        names, share = dict(self.kept), chance.choice((0, 0.2, 0.5, 0.8, 1))
        for _, changes in self.pending:
            if chance.random() < share:
                self.keep(names, changes)
        to.mkdir()
        for name in sorted(names):
            if not all(folder in names for folder in parents(name, root)):
                continue  # in a folder that is not there
            if names[name] is None:
                continue  # made with its first file; empty ones say nothing
            place = to / name[len(root):].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            pending = names[name].pending
            place.write_bytes(names[name].bytes([change for change in pending if chance.random() < share]))


def parents(name, root):
    """Folders between the root and a name."""
    parts = name[len(root):].lstrip("/").split("/")[:-1]
    return [root + "/" + "/".join(parts[:i + 1]) for i in range(len(parts))]


def read_record(data):
    """(time in us, op, offset, path, second path, bytes) of every change."""
    at = 0
    while at < len(data):
        end = data.index(b"\0", at)
        when, op, size, offset, path = data[at:end].decode().split(" ", 4)
        last = data.index(b"\0", end + 1)
        size, at = int(size), last + 1
        yield int(when), op, int(offset), path, data[end + 1:last].decode(), data[at:at + size]
        at += size


def work(latentd, folder, jobs):
    """Runs jobs on a server under record: [(time in us, job, sha256 or None for "acknowledged")]."""
    with tempfile.TemporaryDirectory() as tools:
        shim = faults.Shim(faults.build(tools), tools, folder / "state", log=folder / "record")
        front = Front(latentd, folder, "step_ms=1", env=shim.env)
        told = []
        for number in range(jobs):
            job = front.submit(steps=2, seed=number % 7)
            told.append((time.monotonic_ns() // 1000, job, None))
            if number % 3 == 0:  # the others are done meanwhile
                done = front.wait(job)
                told.append((time.monotonic_ns() // 1000, job, done["images"][0]["sha256"]))
        for job in {job for _, job, _ in told}:
            done = front.wait(job)
            told.append((time.monotonic_ns() // 1000, job, done["images"][0]["sha256"]))
        assert front.stop() == 0
        shim.close()
    return told


def judge(state, told):
    """What a server would find there; raises on anything that was promised and is not."""
    promised = {job for _, job, _ in told}
    if not (state / "jobs.db").exists():
        assert not promised, "the database is gone"
        return
    with sqlite3.connect(state / "jobs.db") as db:
        try:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = {job: (seq, status) for seq, job, status in db.execute("SELECT seq, id, status FROM jobs")}
            pictures = {}
            for seq, digest in db.execute("SELECT job, sha256 FROM images"):
                pictures.setdefault(seq, []).append(digest)
        except sqlite3.OperationalError as error:
            assert "no such table" in str(error) and not promised, error  # before the first schema
            return
    db.close()
    assert promised <= rows.keys(), "an acknowledged job is lost"
    for _, job, digest in told:
        assert not digest or pictures.get(rows[job][0]) == [digest], "a result that was shown is lost"
    for seq, status in rows.values():
        assert status != SUCCEEDED or pictures.get(seq), "done without a picture"
        for digest in pictures.get(seq, ()):
            blob = state / "blobs" / digest[:2] / f"{digest}.png"
            assert blob.exists(), "the picture of a job is lost"
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == digest, "a picture is damaged"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # many small files, none of them to keep
    with tempfile.TemporaryDirectory(dir=memory) as place:
        folder = pathlib.Path(place)
        told = work(str(pathlib.Path(arguments.latentd).resolve()), folder, arguments.jobs)
        record = list(read_record((folder / "record").read_bytes()))
        root, disk, made = str(folder / "state"), Disk(), 0
        disk.kept[root] = disk.names[root] = None
        for number, (when, op, at, path, second, data) in enumerate(record):
            due = arguments.images * (number + 1) // len(record)
            if (path != root or op == "s") and not path.endswith("-shm"):
                disk.apply(op, at, path, second, data)
            until = record[number + 1][0] if number + 1 < len(record) else when
            while made < due:
                image = folder / "image"
                disk.after_power_loss(chance, root, image)
                judge(image, [fact for fact in told if fact[0] < until])
                shutil.rmtree(image, ignore_errors=True)
                made += 1
        flushes = sum(op == "s" for _, op, *_ in record)
    print(f"{len(record)} changes with {flushes} flushes by {arguments.jobs} jobs; {made} disks after a power loss: "
          "0 jobs lost, 0 results lost, 0 pictures damaged, every database sound")
    print("1 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    main()
