"""Proves that the static proof sees what it is for: each planted fault gives a finding, and correct
input gives none. The compiler's words are samples of its real output."""
import pathlib
import tempfile
import unittest
from unittest import mock

import proof

LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4testPf' for 'sm_80'
ptxas info    : Function properties for _Z4testPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 156 registers, used 1 barriers, 1024 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 2.1 ms
ptxas info    : Compiling entry function '_Z4testPf' for 'sm_90'
ptxas info    : Function properties for _Z4testPf
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 368 bytes cmem[0]
"""
PTX = """\
.visible .entry _Z4testPf(
{
\tmma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r2}, {%f2};
\t@%p1 bra $L;
\t@%p2 cp.async.cg.shared.global [%r1], [%rd1], 16;
\t{ ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1}, [%r2]; }
\tbar.sync 0;
}
"""


def usage(registers=100, shared=0, stack=0, spill=0):
    return {"usage": {"k": {t: [registers, shared, stack, spill] for t in proof.TARGETS}}, "census": {}}


class Proof(unittest.TestCase):
    def test_usage_is_read_from_the_compilers_words(self):
        self.assertEqual(proof.parse_usage(LOG), {"_Z4testPf": {"80": [156, 1024, 0, 0],
                                                                "90": [255, 0, 16, 12]}})

    def test_instructions_are_counted_behind_predicates_and_braces(self):
        counts = proof.parse_census(PTX)["_Z4testPf"]
        self.assertEqual({n: c for n, c in counts.items() if c},
                         {"mma": 1, "ldmatrix": 1, "cp.async": 1, "barrier": 1})

    def test_a_kernel_within_its_budget_draws_nothing(self):
        budget = {("a.cu", "k"): ["0", "0"] + ["100"] * len(proof.TARGETS)}
        self.assertEqual(list(proof.check_budget("a.cu", usage(), budget, True)), [])
        self.assertEqual(list(proof.check_budget("a.cu", usage(registers=90), budget, True)), [])

    def test_every_kind_of_excess_is_found(self):
        budget = {("a.cu", "k"): ["0", "0"] + ["100"] * len(proof.TARGETS)}
        for more in ({"registers": 101}, {"shared": 4}, {"stack": 8}, {"spill": 4},
                     {"shared": proof.STATIC_SHARED_MAX + 4}):
            self.assertTrue(list(proof.check_budget("a.cu", usage(**more), budget, True)), more)
        self.assertTrue(list(proof.check_budget("a.cu", usage(), {}, True)))
        missing = usage()
        del missing["usage"]["k"]["120"]
        self.assertTrue(list(proof.check_budget("a.cu", missing, budget, True)))

    def test_under_another_compiler_registers_alone_are_its_own(self):
        budget = {("a.cu", "k"): ["0", "0"] + ["100"] * len(proof.TARGETS)}
        self.assertEqual(list(proof.check_budget("a.cu", usage(registers=120), budget, False)), [])
        for more in ({"registers": 256}, {"shared": 4}, {"stack": 8}, {"spill": 4}):
            self.assertTrue(list(proof.check_budget("a.cu", usage(**more), budget, False)), more)

    def test_a_lost_instruction_is_found_whatever_the_compiler(self):
        result = {"census": {"k": dict.fromkeys(proof.CENSUS, 0) | {"mma": 8}}}
        self.assertEqual(list(proof.check_census("a.cu", result, {("a.cu", "k"): ["mma=8"]}, True)), [])
        self.assertEqual(list(proof.check_census("a.cu", result, {("a.cu", "k"): ["mma=9"]}, False)), [])
        self.assertTrue(list(proof.check_census("a.cu", result, {("a.cu", "k"): ["mma=9"]}, True)))
        self.assertTrue(list(proof.check_census("a.cu", result, {("a.cu", "k"): ["mma=8", "ex2=1"]},
                                                False)))
        self.assertTrue(list(proof.check_census("a.cu", result, {("a.cu", "k"): []}, False)))
        self.assertTrue(list(proof.check_census("a.cu", result, {}, False)))

    def test_notes_of_lost_speed_are_seen_and_others_are_not(self):
        for number in ("C7508", "C7510", "C7517", "C7519"):
            self.assertTrue(proof.NOTES.search(f"ptxas info    : ({number}) Potential Performance Loss"))
        self.assertFalse(proof.NOTES.search("ptxas info    : (C7511) something else"))

    def test_a_kernel_that_spills_does_not_compile(self):
        nvcc = proof.find_tool("nvcc")
        if not nvcc:
            self.skipTest("nvcc is not on this machine")
        source = """
            __global__ __launch_bounds__(1024, 2) void spills(float *p) {
                float v[96];
                for (int i = 0; i < 96; i++) v[i] = p[i * 1024 + threadIdx.x];
                __syncthreads();
                for (int i = 0; i < 96; i++) p[i * 1024 + threadIdx.x] = v[95 - i] * v[i];
            }
        """.replace("for (", "_Pragma(\"unroll\") for (")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "spills.cu"
            path.write_text(source)
            with mock.patch.object(proof, "TARGETS", ("80",)):
                result = proof.prove_file(nvcc, "", path)
        self.assertFalse(result["ok"])
        self.assertIn("spill", result["log"])
        self.assertGreater(next(iter(result["usage"].values()))["80"][3], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
