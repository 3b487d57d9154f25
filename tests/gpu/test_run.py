"""Proves that a run on a GPU machine cannot lose what it has: a failing or hanging part stops no other,
the result is one whole JSON document after every part, counts are never kinder than the programs
were, and programs built beforehand are used only where they fit. With programs of two lines."""
import json
import os
import pathlib
import stat
import tarfile
import tempfile
import time
import unittest
from unittest import mock

import machine
import run as gpu_run


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class Folder(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.folder = pathlib.Path(self.place.name)

    def main(self, *parts, words=()):
        return gpu_run.main(["--host", "--build", str(self.folder / "build"), "--out",
                             str(self.folder / "out"), *words], parts)

    def result(self):
        return json.loads((self.folder / "out" / "result.json").read_text())


class Parts(Folder):
    def test_a_failing_part_stops_no_other_and_is_in_the_result(self):
        def breaks(run):
            raise KeyError("what is not there")

        def misses(run):
            return gpu_run.counted(*run.call("x", [run.tool("not_built")], 5))

        status = self.main(("one", breaks), ("two", misses), ("three", lambda run: (2, 0, 1)))
        self.assertEqual(status, 1)
        result = self.result()
        self.assertEqual([(p["name"], p["passed"], p["failed"], p["skipped"]) for p in result["parts"]],
                         [("one", 0, 1, 0), ("two", 0, 1, 0), ("three", 2, 0, 1)])
        self.assertEqual((result["passed"], result["failed"], result["skipped"]), (2, 2, 1))
        self.assertTrue(all(p["seconds"] >= 0 for p in result["parts"]))
        self.assertTrue((self.folder / "out" / "logs.tar.gz").exists())

    def test_the_result_is_whole_after_every_part(self):
        seen = []
        self.main(("one", lambda run: (1, 0, 0)),
                  ("two", lambda run: (seen.append(self.result()["passed"]), (1, 0, 0))[1]))
        self.assertEqual(seen, [1])

    def test_what_runs_at_once_stops_no_other_and_is_kept_as_it_ends(self):
        seen = []

        def breaks():
            raise AttributeError("what is not there")

        def slow(run):
            time.sleep(0.3)
            seen.append(json.loads(run.result_file.read_text())["kernels"])
            return 1, 0, 0

        def several(run):
            return gpu_run.together(run, [breaks, lambda: slow(run),
                                          lambda: (run.result["kernels"].append("first"), (2, 0, 1))[1]])

        self.main(("several", several), ("next", lambda run: (1, 0, 0)))
        self.assertEqual(seen, [["first"]])
        self.assertEqual([(p["passed"], p["failed"], p["skipped"]) for p in self.result()["parts"]],
                         [(3, 1, 1), (1, 0, 0)])

    def test_logs_are_packed_with_every_result(self):
        names = []

        def look(run):
            with tarfile.open(self.folder / "out" / "logs.tar.gz") as archive:
                names.extend(archive.getnames())
            return 1, 0, 0

        self.main(("one", lambda run: gpu_run.counted(*run.call("said", ["true"], 5))), ("two", look))
        self.assertEqual(names, ["logs/said.log"])

    def test_a_card_is_found_without_its_tool(self):
        with mock.patch.object(machine, "find_tool", return_value=None), \
                mock.patch.object(machine, "ask_driver", return_value={"capability": "9.0"}):
            self.assertEqual(machine.card(), {"capability": "9.0"})
        self.assertIsNone(machine.ask_driver("libno_such_driver.so"))

    def test_nothing_passed_is_no_success(self):
        self.assertEqual(self.main(("one", lambda run: (0, 0, 1))), 1)
        self.assertEqual(self.main(("one", lambda run: (1, 0, 1))), 0)

    def test_without_a_card_nothing_else_is_tried(self):
        with mock.patch.object(machine, "card", return_value="there is none"):
            status = gpu_run.main(["--build", str(self.folder / "build")],
                                  (("device", gpu_run.look_at_device), ("next", lambda run: (1, 0, 0))))
        self.assertEqual(status, 1)
        result = json.loads((self.folder / "build" / "result.json").read_text())
        self.assertEqual([p["name"] for p in result["parts"]], ["device"])


class Calls(Folder):
    def start(self, total_s=60):
        run = machine.Run(True, self.folder / "build", self.folder / "out.json", total_s)
        run.prepare_folders()
        return run

    def test_counts_are_never_kinder_than_the_program(self):
        run = self.start()
        for text, counts in (("echo '3 passed, 0 failed, 1 skipped'", (3, 0, 1)),
                             ("echo '3 passed, 0 failed'; exit 1", (3, 1, 0)),
                             ("echo '3 passed, 2 failed, 0 skipped'; exit 1", (3, 2, 0)),
                             ("exit 0", (1, 0, 0)), ("kill -SEGV $$", (0, 1, 0)),
                             ("echo '9 passed, 0 failed'; sleep 60", (0, 0, 1)),
                             ("echo 'FAIL conv: an element'; sleep 60", (0, 1, 1))):
            path = program(self.folder / "p", text)
            self.assertEqual(gpu_run.counted(*run.call("p", [path], 1)), counts, text)
        self.assertEqual(run.result["cut_off"], ["p", "p"])

    def test_the_sanitizer_is_believed(self):
        error = "========= Invalid __global__ read of size 2 bytes\n"
        for status, output, counts in (
                (0, "========= ERROR SUMMARY: 0 errors\n", (1, 0, 0)), (9, error, (0, 1, 0)),
                (1, "FAIL conv: this shape is not supported\n", (0, 1, 0)), (None, "", (0, 0, 1)),
                (None, error, (0, 1, 1)), (None, "========= Error: Race reported\n", (0, 1, 1)),
                (255, "========= Error: Device not supported. Please refer to\n", (0, 0, 1))):
            self.assertEqual(gpu_run.sanitized(status, output), counts, output)

    def test_a_call_that_hangs_ends_with_what_it_started(self):
        run = self.start()
        child = self.folder / "pid"
        path = program(self.folder / "p", f"sleep 100 & echo $! > {child}; wait")
        began = time.monotonic()
        self.assertEqual(run.call("p", [path], 1)[0], None)
        self.assertLess(time.monotonic() - began, 20)
        with self.assertRaises(ProcessLookupError):
            for _ in range(100):
                os.kill(int(child.read_text()), 0)
                time.sleep(0.05)

    def test_a_part_begins_only_while_there_is_time(self):
        run = self.start(total_s=0)
        run.part("late", lambda run: (1, 0, 0))
        self.assertEqual(run.counts, [0, 0, 1])


class Served(Folder):
    def benched(self, document):
        program(self.folder / "build" / "latentd", f"echo '{json.dumps(document)}'")
        self.main(("bench", lambda run: gpu_run.bench(run, "serve-1024-8", 10, "serve")))
        return self.result()

    def test_other_bits_in_company_are_a_failure_and_the_rows_stay(self):
        rows = [{"in_flight": n, "pictures_per_second": 2.5, "same_bits": n != 4} for n in (1, 2, 4)]
        result = self.benched({"bench": "serve", "rows": rows})
        self.assertEqual((result["passed"], result["failed"]), (0, 1))
        self.assertEqual(result["bench"]["serve-1024-8"]["rows"], rows)
        self.assertEqual(gpu_run.in_flight(result["bench"], 4), 2.5)
        self.assertIsNone(gpu_run.in_flight(result["bench"], 16))

    def test_a_picture_of_no_numbers_is_a_failure(self):
        result = self.benched({"bench": "image", "nonfinite": 3})
        self.assertEqual((result["passed"], result["failed"]), (0, 1))

    def test_choosing_kernels_for_too_long_loses_no_figure(self):
        """The first call, which tunes, hangs; the step is measured all the same."""
        program(self.folder / "build" / "latentd",
                """case "$*" in *--tune*) sleep 60;; *) echo '{"bench": "x"}';; esac""")
        (self.folder / "build" / "random.safetensors").write_text("")

        def call(run, name, command, seconds, env=None):
            return machine.Run.call(run, name, command, 1 if "--tune" in command else seconds, env)

        def benches(run):
            run.host, run.call = False, lambda *words: call(run, *words)
            with mock.patch.object(machine, "find_tool", return_value=None):
                return gpu_run.benches(run)

        self.main(("bench", benches))
        result = self.result()
        self.assertEqual((result["failed"], result["skipped"]), (0, 1))
        self.assertEqual(result["cut_off"], ["bench-step-1024"])
        self.assertIn("step-1024", result["bench"])

    def test_equal_bits_pass(self):
        result = self.benched({"bench": "serve", "rows": [{"in_flight": 1, "same_bits": True}]})
        self.assertEqual((result["passed"], result["failed"]), (1, 0))


class Card(unittest.TestCase):
    def test_what_is_missing_on_a_machine_ends_nothing(self):
        with mock.patch.dict(os.environ, PATH="/nonexistent"):
            self.assertEqual(machine.git_commit(), "unknown")
        with mock.patch.object(machine, "find_tool", return_value="/nonexistent/nvidia-smi"):
            self.assertIn("does not answer", machine.ask_smi())

    def test_a_field_that_a_card_does_not_tell_hides_no_other(self):
        with tempfile.TemporaryDirectory() as folder:
            smi = program(pathlib.Path(folder) / "nvidia-smi",
                          "echo '1980, [N/A], 40'; echo '1500, [N/A], 50'; sleep 60")
            with mock.patch.object(machine, "find_tool", lambda name: {"nvidia-smi": smi}.get(name)), \
                    machine.Clocks() as clocks:
                time.sleep(0.5)
        self.assertEqual(clocks.summary(), {"sm_mhz": {"min": 1500, "median": 1740, "max": 1980},
                                            "celsius": {"min": 40, "median": 45, "max": 50}})

    def test_lines_kept_back_are_not_lost(self):
        """Through a pipe, a program of C keeps its lines back until it ends; a clock's is ended earlier."""
        with tempfile.TemporaryDirectory() as folder:
            smi = program(pathlib.Path(folder) / "nvidia-smi",
                          "exec python3 -c 'import ctypes, time; c = ctypes.CDLL(None); "
                          "c.puts(b\"1980, 400, 40\"); time.sleep(60)'")
            found = {"nvidia-smi": smi, "stdbuf": machine.find_tool("stdbuf")}
            with mock.patch.object(machine, "find_tool", found.get), machine.Clocks() as clocks:
                for _ in range(100):
                    if clocks.columns["celsius"]:
                        break
                    time.sleep(0.1)
        self.assertEqual(clocks.summary()["sm_mhz"]["max"], 1980)


class Ready(Folder):
    def ready(self, arch, sources, starts=True):
        folder = self.folder / "ready"
        program(folder / "latentd", "exit 0" if starts else "exit 1")
        (folder / "ready.json").write_text(json.dumps(
            {"arch": arch, "sources": sources, "commit": "c"}))
        with mock.patch.object(machine, "READY", folder):
            return machine.find_ready("90")

    def test_what_was_built_beforehand_must_fit(self):
        now = machine.sources_hash()
        self.assertEqual(self.ready("90", now)[1]["commit"], "c")
        self.assertIn("the card is 90", self.ready("80", now)[1])
        self.assertIn("other sources", self.ready("90", "0")[1])
        self.assertIn("does not start", self.ready("90", now, starts=False)[1])
        with mock.patch.object(machine, "READY", self.folder / "nowhere"):
            self.assertIsNone(machine.find_ready("90")[0])

    def test_what_cannot_be_started_or_read_is_built_here(self):
        folder = self.folder / "ready"
        self.ready("90", machine.sources_hash())
        (folder / "latentd").chmod(0o644)
        with mock.patch.object(machine, "READY", folder):
            self.assertIn("does not start", machine.find_ready("90")[1])
            machine.packed_ready().write_bytes(b"not an archive")
            self.assertIn("cannot be unpacked", machine.find_ready("90")[1])

    def test_one_file_carries_it_all(self):
        run = machine.Run(True, self.folder / "build", self.folder / "out.json")
        for name in ("latentd", "gpu_test_x"):
            program(self.folder / "build" / "deep" / name, "exit 0")
        there = self.folder / "there" / "ready"
        there.parent.mkdir()
        with mock.patch.object(machine, "READY", self.folder / "ready"):
            size = machine.keep_ready(run, "90", ["latentd", "gpu_test_x"])
            packed = machine.packed_ready()
            self.assertEqual(size, packed.stat().st_size)
            packed.rename(there.with_name(packed.name))
        with mock.patch.object(machine, "READY", there):
            folder, facts = machine.find_ready("90")
        self.assertEqual((folder, facts["arch"]), (there, "90"))
        self.assertEqual(sorted(p.name for p in folder.iterdir() if os.access(p, os.X_OK)),
                         ["gpu_test_x", "latentd"])


class Sources(unittest.TestCase):
    def test_every_test_program_is_waited_for(self):
        """The list of kernel tests comes from the build's own, and the sanitizer's is part of it."""
        listed = (machine.ROOT / "tests/cuda/CMakeLists.txt").read_text()
        for _, name in gpu_run.SANITIZED:
            self.assertIn(f"ld_cuda_test({name.removeprefix('gpu_')} ", listed)


if __name__ == "__main__":
    unittest.main()
