"""What is told about a run."""
import os
import pty
import subprocess

import numpy as np

from cli import support


KEYS = set(
    "schedule mode isa arithmetic storage threads frames tokens_per_frame heads kv_heads head_dim value_dim feature_dim seconds gflops "
    "state_bytes workspace_bytes min_denominator min_abs_denominator nan_denominators repeat".split())


class Report(support.CliTest):

    def test_keys(self):
        framed = {"chunk_frames", "overlap_frames", "direction"}
        for options, more in ((self.phi, framed | {"stabilizer"}), (support.flags(schedule="softmax"), {"keys"}),
                              (support.flags(schedule="linear", feature_map="elu1"), framed),
                              (support.flags(schedule="uniform", feature_map="elu1", rate=3), {"rate", "stabilizer"}),
                              ([*self.phi, *support.flags(mode="recurrent")], framed | {"stabilizer"})):
            _, report = self.attend(*options)
            self.assertEqual(set(report), KEYS | more)
            self.assertGreater(report["seconds"], 0)
            self.assertGreater(report["workspace_bytes"], 0)
            self.assertEqual([report[key] for key in ("heads", "kv_heads", "head_dim", "value_dim")],
                             [self.H, self.HKV, self.D, self.DV])

    def test_operations(self):
        # 7 frames in chunks of 3, overlap 1: softmax frames 3, 4, 2; 4 frames of queries read; 5 frames are absorbed
        pairs, readers, absorbed = (3 * 3 + 3 * 4 + 1 * 2) * self.M**2, 4 * self.M, 5 * self.M
        mlp, read = self.D * 5 + 5 * self.F, self.F * self.DV
        expected = 2 * (self.H * (pairs * (self.D + self.DV) + readers * (mlp + read)) + self.HKV * absorbed * (mlp + read))
        _, report = self.attend(*self.phi)
        self.assertAlmostEqual(report["gflops"] * report["seconds"] * 1e9 / expected, 1, places=6)
        self.assertEqual(report["feature_dim"], self.F)
        _, report = self.attend("--schedule", "softmax")
        expected = 2 * self.H * (self.T * self.M)**2 * (self.D + self.DV)
        self.assertAlmostEqual(report["gflops"] * report["seconds"] * 1e9 / expected, 1, places=6)

    def test_memory_does_not_grow_with_the_clip(self):
        short = support.flags(**{name: self.save(name + "_short", self.arrays[name][:4]) for name in "qkv"})
        for mode in ("oneshot", "recurrent"):
            _, a = self.attend(*self.phi, *support.flags(mode=mode))
            _, b = self.attend(*self.phi, *support.flags(mode=mode), clip=short)
            for key in ("state_bytes", "workspace_bytes"):
                self.assertEqual(a[key], b[key], (mode, key))

    def test_numbers_that_json_lacks(self):
        q = self.save("nan", np.full_like(self.arrays["q"], np.nan))
        out, report = self.attend("--schedule", "softmax", clip=["--q", q, *self.clip()[2:]])
        self.assertTrue(np.isnan(out).all())
        self.assertIsNone(report["min_denominator"])
        self.assertEqual(report["nan_denominators"], self.T * self.M * self.H)

    @staticmethod
    def read_all(terminal):
        """What is written to a terminal until its last writer closes it. Reading late would lose it: it holds 4 KB."""
        drawn = b""
        try:
            while part := os.read(terminal, 1 << 16):
                drawn += part
        except OSError:  # closed
            pass
        return drawn.decode()

    def test_progress_is_for_terminals_and_long_runs(self):
        phi = [*self.clip(), *self.phi, "--out", self.folder / "progress.npy"]
        for mode in ("oneshot", "recurrent"):
            _, report = self.attend(*self.phi, *support.flags(mode=mode, repeat=20))
            repeats = min(1000000, int(5 / report["seconds"]))  # five times what counts as long
            for repeat, expected in ((1, False), (repeats, True)):
                try:
                    terminal, stderr = pty.openpty()
                except OSError as error:
                    self.skipTest(f"no terminal can be had: {error}")
                arguments = [*support.program, "attend", *map(str, [*phi, *support.flags(mode=mode, repeat=repeat)])]
                with subprocess.Popen(arguments, stderr=stderr, stdout=subprocess.DEVNULL) as running:
                    os.close(stderr)
                    drawn = self.read_all(terminal)
                os.close(terminal)
                self.assertEqual(running.returncode, 0)
                self.assertEqual("%" in drawn, expected, (mode, repeat, drawn))
                if expected:
                    self.assertTrue(drawn.endswith("\r\x1b[K"), drawn)
