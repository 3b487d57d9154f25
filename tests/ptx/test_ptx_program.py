"""Proves that the program that a GPU is measured with says what tests/gpu/run.py reads of it, and that
what it measures is right: latentd bench and selftest over the machine that runs the kernels' PTX
(latentd_ptx), called as run.py calls them and judged by its rules. Times mean nothing here.

usage: test_ptx_program.py LATENTD_PTX MAKE_GOLDEN_MODEL
"""
import collections
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
from array import array

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "gpu"))
import machine
import run as gpu_run

LATENTD, MAKE_MODEL = sys.argv[1:3]
SIZE, SIDE, WIDTH = "64x64", 8, 32  # a picture, its latent, the tiny model's contexts
# Tuned and not, relative L2: a few roundings to 16 bits in another order each.
OTHER_ORDER = 4e-3
UNITS = 12  # that a tuning has decided when its time is up: linear layers, convolutions, attentions
# SD1.5's operators. UNet: 22 residual blocks, 16 transformers, 3 ways down, 3 up, in, out.
# Decoder: 14 residual blocks, an attention, 3 ways up, in, out.
KINDS = {"unet": {"conv3x3": 22 * 2 + 8, "group_norm": 22 * 2 + 16 + 1, "layer_norm": 16 * 3,
                  "attention": 16 * 2},
         "vae": {"conv3x3": 14 * 2 + 5, "group_norm": 14 * 2 + 2, "attention": 1}}


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.place.cleanup)
        cls.models = pathlib.Path(cls.place.name) / "models"
        cls.models.mkdir()
        subprocess.run([MAKE_MODEL, cls.models], check=True)

    def setUp(self):
        folder = pathlib.Path(self.place.name) / self.id()
        self.gpu = machine.Run(False, folder, folder / "result.json", 600)
        self.gpu.prepare_folders()
        (folder / "latentd").symlink_to(LATENTD)
        self.model = folder / "random.safetensors"
        self.model.symlink_to(self.models / "tiny.safetensors")

    def sample(self, blocks):
        self.gpu.env["PTX_BLOCKS"] = str(blocks)

    def bench(self, name, *words, size=SIZE, model=True):
        """Its document, which run.py must count as passed."""
        more = ("--model", str(self.model)) if model else ()
        counts = gpu_run.bench(self.gpu, name, 200, *words, "--size", size, "--rounds", "1", *more)
        self.assertEqual(counts, (1, 0, 0), name)
        found = self.gpu.result["bench"][name]
        self.assertEqual((found["bench"], found["backend"]), (words[0], "cuda"))
        self.assertRegex(found["device"], "^PTX on the host, .* fp16$")
        return found

    def said(self, name):
        return (self.gpu.logs / f"bench-{name}.log").read_text()

    def check_times(self, times, rounds=1):
        self.assertTrue(0 < times["p10_ms"] <= times["median_ms"] <= times["p90_ms"], times)
        self.assertGreaterEqual(times["rounds"], rounds)

    def selftest(self):
        done = subprocess.run([LATENTD, "selftest", "--json"], capture_output=True, text=True,
                              env=self.gpu.env, check=False)
        return done.returncode, json.loads(done.stdout)["backends"]

    def check_rows(self, found):
        """By kind, the operators of the network; and what all of them compute."""
        ceilings, rows = found["rows"][:3], found["rows"][3:]
        self.assertTrue(all(ceiling["op"].startswith("ceiling: ") for ceiling in ceilings))
        self.assertTrue(min(ceilings[0]["tflops"], ceilings[1]["gbps"], ceilings[2]["gexps"]) > 0)
        counts = collections.Counter()
        for row in rows:
            self.assertTrue(min(row["count"], row["bytes"], row["floor_ms"], row["ratio"]) > 0, row)
            self.check_times(row["time"])
            counts[row["op"].split()[0]] += row["count"]
        del counts["linear"]
        self.assertEqual(counts, KINDS[found["network"]])
        total = sum(row["count"] * row["time"]["median_ms"] for row in rows)
        self.assertAlmostEqual(found["total_ms"] / total, 1, places=3)
        return sum(row["count"] * row["flop"] for row in rows)

    # ---- Whole grids ----

    def test_every_backend_is_there_and_right(self):
        status, backends = self.selftest()
        self.assertEqual(status, 0)
        self.assertEqual([(b["backend"], b["precision"], b["there"], b["right"]) for b in backends],
                         [("cpu", "fp32", True, True), ("cuda", "fp16", True, True),
                          ("cuda", "bf16", True, True)])

    def test_a_step_and_a_picture(self):
        for size, name, *words in ((SIZE, "step-1024", "step"),
                                   ("8x8", "step-1024-streamed", "step", "--stream")):
            step = self.bench(name, *words, size=size)
            self.check_times(step["step"])
            self.assertAlmostEqual(step["tflops"] * step["step"]["median_ms"] * 1e9 / step["flop"], 1,
                                   places=3)
            self.assertEqual(step.get("streamed"), True if "--stream" in words else None)
        image = self.bench("image-1024-8", "image", "--steps", "2", size="8x8")
        for phase in ("text", "steps", "decode", "total"):
            self.check_times(image[phase])
        self.assertEqual((image["step_count"], image["nonfinite"]), (2, 0))

    def test_pictures_in_company(self):
        rows = self.bench("serve-1024-8", "serve", "--steps", "2", "--batch", "2", "--seconds", "1000",
                          size="8x8")["rows"]
        self.assertEqual([(row["in_flight"], row["same_bits"]) for row in rows], [(1, True), (2, True)])
        for row in rows:
            self.assertGreaterEqual(row["pictures"], 2 * row["in_flight"])
            self.assertGreater(gpu_run.in_flight(self.gpu.result["bench"], row["in_flight"]), 0)
            for phase in ("step", "decode", "text"):
                self.check_times(row[phase])

    def steps(self, size, side, images, *more):
        """The bytes of each image's rows: walked, recorded and replayed, the same each time."""
        latents = [gpu_run.normals(i, 4 * side * side) for i in range(images)]
        contexts = [gpu_run.normals(100 + i, 77 * WIDTH) for i in range(2 * images)]
        with gpu_run.Pipe(self.gpu, "step", size, latents, contexts, *more) as pipe:
            first, *others = [pipe.step() for _ in range(3)]
        self.assertTrue(others == [first, first], "walked, recorded, replayed")
        return first

    def test_equal_bytes(self):
        alone, = self.steps(SIZE, SIDE, 1)
        half = len(alone) // 2
        self.assertTrue(alone[:half] != alone[half:], "two contexts")
        self.assertTrue(self.steps(SIZE, SIDE, 1, "--stream") == [alone], "streamed")
        company = self.steps(SIZE, SIDE, 2)
        self.assertTrue(company[0] == alone, "in company")
        self.assertTrue(company[1] != alone, "two images")

    def tune_for_a_while(self, *words):
        """Ended as run.py ends it when the time is up."""
        command = [LATENTD, "bench", *words, "--tune", "--json", "--backend", "cuda", "--model",
                   str(self.model)]
        with open(self.gpu.logs / "tuning.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(command, env=self.gpu.env, stdout=log, stderr=log,
                                       start_new_session=True)
        units, until = [], time.monotonic() + 200
        while len(units) < UNITS and process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
            files = list(self.gpu.tuning.glob("tune-*.txt"))
            units = [line for file in files for line in file.read_text().splitlines()
                     if line.startswith("unit ")]
        gpu_run.end_group(process)
        self.assertGreaterEqual(len(units), UNITS)

    def test_kernels_chosen_until_the_time_was_up(self):
        """They compute the same, whoever is in the batch, and bench tells of them."""
        plain = array("f", self.steps("8x8", 1, 1)[0])
        self.tune_for_a_while("step", "--size", "8x8")
        alone, = self.steps("8x8", 1, 1)
        self.assertTrue(self.steps("8x8", 1, 2)[0] == alone, "in company")
        tuned = array("f", alone)
        difference = math.dist(plain, tuned) / math.hypot(*plain)
        self.assertLessEqual(difference, OTHER_ORDER)
        self.sample(2)
        found = self.bench("kernels-unet-1024", "kernels", size="8x8")
        step = self.bench("step-1024", "step", size="8x8")
        self.assertAlmostEqual(self.check_rows(found) / step["flop"], 1, places=4)
        chosen = [row for row in found["rows"] if "chosen" in row]
        self.assertGreaterEqual(len(chosen), 8)
        for row in chosen:
            self.assertRegex(row["chosen"], "^own:")
            self.assertTrue(row["runner_up"] == "" or row["runner_up_ms"] >= row["chosen_ms"] > 0, row)

    # ---- Of each grid a sample ----

    def test_operators_of_sd15_are_all_there(self):
        self.sample(1)
        self.check_rows(self.bench("kernels-unet-1024", "kernels", size="512x512", model=False))
        self.sample(2)
        self.check_rows(self.bench("kernels-vae-1024", "kernels", "--network", "vae", size="512x512",
                                   model=False))

    def test_every_candidate_of_a_tuning_runs(self):
        """Most cannot agree with the plain kernel, of which other blocks have run; all are tried."""
        self.sample(1)
        self.check_times(self.bench("step-1024", "step", "--tune")["step"])
        said = self.said("step-1024")
        self.assertNotIn("it failed", said)
        self.assertGreater(said.count("it differs from the kernel that judges"), 1000)

    def test_a_sample_is_a_sample(self):
        self.sample(1)
        self.gpu.env["PTX_MEMORY_GIB"] = "139"
        status, backends = self.selftest()
        self.assertEqual(status, 1)
        self.assertEqual([(b["there"], b["right"]) for b in backends[1:]], [(True, False)] * 2)
        self.assertIn(f"{139 << 10} MiB", backends[1]["says"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
