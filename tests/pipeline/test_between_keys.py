"""Proves that a key cannot learn from the time of its own jobs what another key has asked for: a prompt that
one key has had encoded takes another key as long as a new one (robustness.md P7). Prints its figures."""

import json
import re
import statistics
import subprocess
import time

PROMPTS = 12
COUNTED_S = 2  # the worker's counts reach the front a little later
WORDS = "red green blue night sky river stone paper glass light cloud field".split()


def encoded(server):
    return sum(float(value) for value in re.findall(
        r'^latentd_text_contexts_total\{result="encoded"\} (\S+)$', server.get("/metrics")[2].decode(), re.M))


def test_an_encoded_prompt_is_no_faster_for_another_key(serve, latentd, tmp_path, capsys):
    keys = [subprocess.run([latentd, "keys", "add", name, "--state-dir", str(tmp_path / "state")], check=True,
                           capture_output=True, text=True).stdout.strip() for name in ("first", "second")]
    server = serve()

    def text_ms(key, number):
        """Of a job with a prompt of several chunks, the same for the same number, and no other text to encode."""
        words = " ".join(WORDS[(number + i * (1 + number % 5)) % len(WORDS)] for i in range(400))
        status, _, body = server.post(
            "/v1/jobs?wait=60", {"prompt": f"{number} {words}", "width": 64, "height": 64, "steps": 1, "cfg_scale": 1, "seed": 1},
            headers={"Authorization": f"Bearer {key}"})
        job = json.loads(body)
        assert status == 200 and job["status"] == "succeeded", body
        return job["timings"]["text_ms"]

    for key in keys:  # builds what later ones reuse, the empty negative prompt too
        text_ms(key, 1000)
    time.sleep(COUNTED_S)
    before = encoded(server)
    new, other, again = [], [], []
    for number in range(PROMPTS):
        new.append(text_ms(keys[0], number))
        other.append(text_ms(keys[1], number))
        again.append(text_ms(keys[0], number))
    time.sleep(COUNTED_S)
    assert encoded(server) == before + 2 * PROMPTS, "each key's prompt is encoded once for it"
    middle = {name: statistics.median(times) for name, times in (("new", new), ("other", other), ("again", again))}
    with capsys.disabled():
        print(f"\n  text of a new prompt {middle['new']:.2f} ms, of one that another key has had encoded "
              f"{middle['other']:.2f} ms, of one's own {middle['again']:.2f} ms (medians of {PROMPTS})")
    # The third shows that the first two could tell.
    assert middle["again"] < middle["new"] / 2
    assert middle["other"] > (middle["new"] + middle["again"]) / 2
