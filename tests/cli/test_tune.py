"""The subcommand tune."""
import itertools
import json
import os
import pty
import signal
import subprocess

import numpy as np

from cli import support


class Tune(support.CliTest):
    OPTIONS = dict(chunk_frames="2,1", overlap_frames="0,1", features="4,8", validation_frames=2, steps=3, seed=5)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rng = np.random.default_rng(2)
        for name in "qkv":  # another layer, of other heads and frame sizes
            cls.save(name + "_wide", rng.standard_normal((cls.T, 9, 2, 6)).astype(np.float32))

    def layer(self, name, suffix=""):
        return ["--layer", name + "=" + ",".join(str(self.file(array + suffix)) for array in "qkv")]

    def tune(self, *arguments, **options):
        done = support.run("tune", *arguments, *support.flags(**self.OPTIONS | options), "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""), options)
        return json.loads(done.stdout)

    @staticmethod
    def find(layer, **wanted):
        found = [s for s in layer["settings"] if all(s.get(key) == value for key, value in wanted.items())]
        assert len(found) == 1, (wanted, found)
        return found[0]

    def test_the_grid_and_its_operations(self):
        layer, = self.tune(*self.layer("a"))["layers"]
        self.assertEqual([layer[key] for key in ("name", "clips", "frames", "tokens_per_frame", "heads", "kv_heads")],
                         ["a", 1, self.T, self.M, self.H, self.HKV])
        self.assertEqual(len(layer["settings"]), 1 + 4 * 4)
        pair, tokens = 2 * (self.D + self.DV) * self.H, self.T * self.M
        self.assertEqual(layer["settings"][0] | {"error_by_head": None},
                         dict(beyond="softmax", operations=pair * tokens**2, error=0.0, error_by_head=None, on_front=True))
        for chunk, overlap in itertools.product((1, 2), (0, 1)):
            begins = range(0, self.T, chunk)
            pairs = sum((min(t + chunk, self.T) - t) * (min(t + chunk, self.T) - max(t - overlap, 0)) for t in begins)
            readers = sum(min(t + chunk, self.T) - t for t in begins if t > overlap) * self.M * self.H
            absorbed = max(begins[-1] - overlap, 0) * self.M * self.HKV
            at = dict(chunk_frames=chunk, overlap_frames=overlap)
            window = pair * self.M**2 * pairs
            self.assertEqual(self.find(layer, beyond="window", **at)["operations"], window)
            for beyond, features, phi in (("elu1", self.D, 0), ("phi", 4, 4 * self.D + 16), ("phi", 8, 8 * self.D + 64)):
                self.assertEqual(self.find(layer, beyond=beyond, features=features, **at)["operations"],
                                 window + 2 * (phi + features * self.DV) * (readers + absorbed))
        longer = self.tune(*self.layer("a"), frames=70, steps=0, hidden=5)["layers"][0]
        self.assertEqual(longer["frames"], 70)
        self.assertEqual(longer["settings"][0]["operations"], 100 * pair * tokens**2)

    def test_the_errors_are_those_of_attend(self):
        layer, = self.tune(*self.layer("a"), steps=0)["layers"]
        self.assertEqual({s["beyond"] for s in layer["settings"]}, {"softmax", "window", "elu1"})
        for chunk, overlap in itertools.product((1, 2), (0, 1)):
            teacher, _ = self.attend(*support.flags(feature_map="elu1", chunk_frames=chunk, overlap_frames=self.T))
            elu1, _ = self.attend(*support.flags(feature_map="elu1", chunk_frames=chunk, overlap_frames=overlap))
            error = self.find(layer, beyond="elu1", chunk_frames=chunk, overlap_frames=overlap)
            a, b = (array[-2:].astype(float) for array in (teacher, elu1))
            self.assertAlmostEqual(error["error"], np.abs(a - b).sum() / np.abs(a).sum(), places=5)
            np.testing.assert_allclose(error["error_by_head"],
                                       np.abs(a - b).sum((0, 1, 3)) / np.abs(a).sum((0, 1, 3)), atol=1e-5)

    def test_phi_is_what_distill_trains(self):
        layer, = self.tune(*self.layer("a"), *self.layer("a"), hidden=6)["layers"]
        self.assertEqual(layer["clips"], 2)
        clip = self.layer("a")[1].partition("=")[2]
        done = support.run("distill", "--clip", clip, "--clip", clip, *support.flags(
            out=self.folder / "phi_of_tune.safetensors", chunk_frames=2, overlap_frames=1, features=8, hidden=6,
            validation_frames=2, steps=3, seed=5, json=True))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        heads = json.loads(done.stdout)["heads"]
        at = dict(chunk_frames=2, overlap_frames=1)
        phi = self.find(layer, beyond="phi", features=8, **at)
        self.assertEqual(phi["error_by_head"], [head["validation"]["distilled"] for head in heads])
        self.assertEqual(phi["silent_heads"], sum(head["fell_back"] for head in heads))
        self.assertEqual(self.find(layer, beyond="window", **at)["error_by_head"],
                         [head["validation"]["window"] for head in heads])

    def test_fronts_and_budgets(self):
        options = dict(budget="0.9,0.6,1", threads=2)
        report = self.tune(*self.layer("a"), *self.layer("wide", "_wide"), **options)
        for layer in report["layers"]:
            for one in layer["settings"]:
                beaten = any(other["operations"] <= one["operations"] and other["error"] <= one["error"] and
                             (other["operations"], other["error"]) != (one["operations"], one["error"])
                             for other in layer["settings"])
                self.assertEqual(one["on_front"], not beaten)
        a, wide = (layer["settings"] for layer in report["layers"])
        softmax = a[0]["operations"] + wide[0]["operations"]
        self.assertEqual(report["softmax_operations"], softmax)
        for budget, asked in zip(report["budgets"], (0.9, 0.6, 1), strict=True):
            self.assertEqual((budget["budget"], budget["allowed_operations"]), (asked, asked * softmax))
            best = min((one["error"] + other["error"], one["operations"] + other["operations"])
                       for one, other in itertools.product(a, wide)
                       if one["operations"] + other["operations"] <= asked * softmax)
            self.assertEqual((budget["error"], budget["operations"]), best)
            chosen = [layer[i] for layer, i in zip((a, wide), budget["settings"], strict=True)]
            self.assertEqual(sum(setting["operations"] for setting in chosen), budget["operations"])
        self.assertEqual(report["budgets"][2]["settings"], [0, 0])
        absolute = self.tune(*self.layer("a"), *self.layer("wide", "_wide"), budget=int(0.6 * softmax))
        self.assertEqual(absolute["budgets"][0]["settings"], report["budgets"][1]["settings"])
        self.assertEqual(absolute["layers"], report["layers"])

    def test_text(self):
        done = support.run("tune", *self.layer("first"), *self.layer("wide", "_wide"),
                           *support.flags(**self.OPTIONS | dict(budget=0.7, steps=0, teacher="full")))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for words in ("full teacher", "last 2 frames", "layer first: 7 frames of 6 tokens, 4 heads of 8",
                      "layer wide: 7 frames of 9 tokens, 2 heads of 6", "budget 0.7: ", "first: ", "wide: "):
            self.assertIn(words, done.stdout)

    def test_an_interrupted_run_reports_what_it_has(self):
        terminal, stderr = pty.openpty()
        command = [*support.program, "tune", *self.layer("a"),
                   *support.flags(**self.OPTIONS | dict(steps=2000, budget=1, json=True))]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=stderr, text=True) as running:
            os.close(stderr)
            shown = b""
            while b"1 of 8" not in shown:
                shown += os.read(terminal, 1024)
            running.send_signal(signal.SIGINT)
            stdout, _ = running.communicate(timeout=60)
        os.close(terminal)
        self.assertEqual(running.returncode, 128 + signal.SIGINT)
        report = json.loads(stdout)
        self.assertTrue(report["interrupted"])
        settings = report["layers"][0]["settings"]
        self.assertIn("error", self.find(report["layers"][0], beyond="phi", features=4, chunk_frames=1, overlap_frames=0))
        self.assertNotIn("error", settings[-1])
        self.assertEqual(report["budgets"][0]["settings"], [0])

    def test_refusals(self):
        rng = np.random.default_rng(3)
        bad = rng.standard_normal((self.T, self.M, self.HKV, self.DV)).astype(np.float32)
        bad[-1, -1, -1, -1] = np.nan
        q, k, v, nan = self.file("q"), self.file("k"), self.file("v"), self.save("nan", bad)
        zeros = self.save("zeros", np.zeros_like(bad))
        for layers, options, says in (
            ([], {}, "--layer"), (["--layer", f"{q},{k},{v}"], {}, "NAME=Q,K,V"), (["--layer", f"={q},{k},{v}"], {}, "NAME="),
            (["--layer", f"a={q},{k}"], {}, ("--layer a", "Q,K,V")),
            (["--layer", f"a={q},{k},{nan}"], {}, ("--layer a", "nan.npy", "NaN")),
            (["--layer", f"a={q},{k},{zeros}"], dict(steps=0), ("--layer a", "chunk 1, overlap 0", "not finite")),
            ([*self.layer("a"), *self.layer("a", "_wide")], {}, ("--layer a", "clips[1]")),
            (self.layer("a"), dict(chunk_frames="2,8"), ("--layer a", "chunk 8", "7 frames")),
            (self.layer("a"), dict(chunk_frames="2,x"), "--chunk-frames"), (self.layer("a"), dict(features=""), "--features"),
            (self.layer("a"), dict(features="4,5"), ("5 features", "degree")),
            (self.layer("a"), dict(overlap_frames="-1"), "--overlap-frames"),
            (self.layer("a"), dict(budget="0.5,0.01"), ("--budget 0.01", "expected at least")),
            (self.layer("a"), dict(budget=-1), "--budget"), (self.layer("a"), dict(frames=0), "--frames"),
            (self.layer("a"), dict(isa="z80"), "--isa"),
        ):
            with self.subTest(layers=layers, options=options):
                self.assert_refused(*layers, *support.flags(**self.OPTIONS | options), command="tune", says=says)
