"""Proves that the backup of docs/operations.md, taken while the server works, is a server that goes on:
every job of that moment is there, pictures are whole, and the queue is finished. And that a deleted job
leaves nothing of its prompt behind in the files."""

import hashlib
import shutil
import sqlite3


def test_a_restored_server_has_every_job_and_finishes_the_queue(serve, tmp_path):
    front = serve("step_ms=30", "--worker-jobs", "2")
    done = [front.submit(seed=n, steps=2) for n in range(3)]
    pictures = {}
    for job in done:
        front.wait(job)
        pictures[job] = front.picture(job)
    waiting = [front.submit(seed=100 + n, steps=40) for n in range(4)]
    front.wait(waiting[0], ("running",))
    # In the order that the page gives: the database first, then the pictures.
    copy = tmp_path / "restored" / "state"
    (copy / "blobs").mkdir(parents=True, mode=0o700)
    with sqlite3.connect(front.folder / "state" / "jobs.db", timeout=10) as database:
        database.execute("VACUUM INTO ?", (str(copy / "jobs.db"),))
    shutil.copytree(front.folder / "state" / "blobs", copy / "blobs", dirs_exist_ok=True)
    front.kill()
    copy.chmod(0o700)
    restored = serve("", folder=tmp_path / "restored")
    for job in done:
        assert restored.picture(job) == pictures[job]
        assert restored.job(job)["images"][0]["sha256"] == hashlib.sha256(pictures[job]).hexdigest()
    for job in waiting:
        assert restored.wait(job)["status"] == "succeeded"


def test_a_deleted_job_leaves_no_byte_of_its_prompt(serve):
    canary = "canary4471-" + "x" * 40
    front = serve()
    job = front.submit(prompt=canary, negative_prompt=canary, tag=canary, user_data={"k": canary})
    front.wait(job)
    state = front.folder / "state"

    def hits():
        return [path.name for path in state.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()]

    assert hits(), "while it is there, it is in the database"
    assert front.call("DELETE", f"/v1/jobs/{job}").status == 204
    assert front.stop() == 0  # the last connection folds the log into the database
    assert not hits()
