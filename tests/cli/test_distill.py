"""The subcommand distill."""
import json
import os
import pty
import signal
import subprocess

import numpy as np

from cli import support


class Distill(support.CliTest):
    GEOMETRY = support.flags(chunk_frames=2, overlap_frames=1)

    @classmethod
    def small(cls, **options):
        """Options of a short training, with some of them changed."""
        short = dict(chunk_frames=2, overlap_frames=1, validation_frames=2, hidden=12, features=10, steps=20,
                     evaluate_every=5)
        return support.flags(**short | options)

    @property
    def triple(self):
        return ",".join(str(self.file(name)) for name in "qkv")

    def distill(self, clips=1, **options):
        """The path of the weights, and the report."""
        out = self.folder / "distilled.safetensors"
        done = support.run("distill", *["--clip", self.triple] * clips, *self.small(**options), "--out", out, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""), options)
        return out, json.loads(done.stdout)

    def test_the_report_is_what_attend_gives(self):
        phi, report = self.distill()
        teacher, _ = self.attend(*support.flags(feature_map="elu1", chunk_frames=2, overlap_frames=self.T))
        window = self.softmax_of_chunks()
        elu1, _ = self.attend(*self.GEOMETRY, "--feature-map", "elu1")
        distilled, _ = self.attend(*self.GEOMETRY, "--phi", phi)
        self.assertEqual([head["head"] for head in report["heads"]], list(range(self.H)))
        for head in report["heads"]:
            h = head["head"]
            self.assertEqual(head["kv_head"], h // (self.H // self.HKV))
            for name, out in (("window", window), ("elu1", elu1), ("distilled", distilled)):
                for part, frames in (("train", slice(2, self.T - 2)), ("validation", slice(self.T - 2, None))):
                    a, b = teacher[frames, :, h].astype(float), out[frames, :, h].astype(float)
                    self.assertAlmostEqual(head[part][name], np.abs(a - b).sum() / np.abs(a).sum(), places=5)
            self.assertLessEqual(head["validation"]["distilled"], head["validation"]["window"])

    def softmax_of_chunks(self):
        """Attention without a linear branch: features are zero."""
        zeros = {side: self.save(side + "_zero", np.zeros((self.T, self.M, heads, 1), np.float32))
                 for side, heads in (("phi_q", self.H), ("phi_k", self.HKV))}
        return self.attend(*self.GEOMETRY, *support.flags(**zeros))[0]

    def test_it_learns(self):
        _, report = self.distill(steps=80)
        for head, curve in zip(report["heads"][::2], report["curves"]):
            self.assertEqual([point[0] for point in curve], list(range(0, 81, 5)))
            self.assertIsNone(curve[0][1])
            self.assertLess(curve[-1][1], curve[1][1])
            self.assertLess(head["train"]["distilled"], head["train"]["window"])

    def test_the_same_bits_for_any_number_of_threads(self):
        for options in ({}, dict(batch_chunks=1), dict(loss="l2", teacher="full", keep_chunks=True)):
            files = [self.distill(clips=2, threads=threads, **options)[0].read_bytes() for threads in (1, 3, 1)]
            self.assertEqual(files[0], files[1])
            self.assertEqual(files[0], files[2])
            self.assertNotEqual(files[0], self.distill(clips=2, seed=1, **options)[0].read_bytes())

    def test_place_cells(self):
        """Another start, the same bits for any number of threads, and steps of its own."""
        places = dict(initial="places", place_steps=30, batch_clips=1)
        out, report = self.distill(clips=2, **places)
        weights = out.read_bytes()
        self.assertEqual((report["initial"], report["place_steps"], report["batch_clips"]), ("places", 30, 1))
        self.assertEqual(self.distill(clips=2, threads=2, **places)[0].read_bytes(), weights)
        for options in (places | dict(place_steps=29), places | dict(initial="silent")):
            self.assertNotEqual(self.distill(clips=2, **options)[0].read_bytes(), weights)

    def test_text(self):
        done = support.run("distill", "--clip", self.triple, *self.small(), "--out", self.folder / "text.safetensors")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [line.split() for line in done.stdout.splitlines()]
        self.assertEqual([row[0] for row in rows[3:3 + self.H]], [str(h) for h in range(self.H)])

    def test_an_interrupted_run_keeps_its_best_weights(self):
        out = self.folder / "interrupted.safetensors"
        terminal, stderr = pty.openpty()
        command = [*support.program, "distill", "--clip", self.triple, *self.small(steps=10**9), "--out", out,
                   "--json"]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=stderr, text=True) as running:
            os.close(stderr)
            shown = b""
            while b"left" not in shown:  # it trains, and listens
                shown += os.read(terminal, 1024)
            running.send_signal(signal.SIGINT)
            stdout, _ = running.communicate(timeout=60)
        os.close(terminal)
        self.assertEqual(running.returncode, 128 + signal.SIGINT)
        self.assertIn(b"validation", shown)
        report = json.loads(stdout)
        self.assertTrue(report["interrupted"])
        for head in report["heads"]:
            self.assertLess(head["steps"], 10**9)
            self.assertEqual(head["began"], head["kv_head"] == 0)  # there is one worker
            if head["began"]:
                self.assertLessEqual(head["validation"]["distilled"], head["validation"]["window"])
            else:
                self.assertTrue(head["fell_back"])
                self.assertEqual(set(head["validation"].values()), {None})
                self.assertEqual(report["curves"][head["kv_head"]], [])
        self.attend(*self.GEOMETRY, "--phi", out)

    def test_refusals(self):
        q, k, v = (self.file(name) for name in "qkv")
        few = self.save("few", self.arrays["v"][:3])
        bad = self.arrays["v"].copy()
        bad[0, 0, 0, 0] = np.nan
        nan = self.save("nan", bad)
        weights = ["--out", self.folder / "refused" / "out.npy"]
        def clip(*files):
            return ["--clip", ",".join(map(str, files))]

        for arguments, options, says in (
            ([], {}, "--clip"), (clip(q, k), {}, "Q,K,V"), (clip(q, k, "missing.npy"), {}, "missing.npy"),
            (clip(q, k, few), {}, ("few.npy", "[3, 6, 2, 12]")),
            (clip(*(self.file(name + "_rank3") for name in "qkv")), {}, "q_rank3.npy"),
            (clip(q, k, nan), {}, ("kv head 0", "NaN")),
            (clip(q, k, v), dict(features=9), ("map.feature_dim", "degree")),
            (clip(q, k, v), dict(validation_frames=6), ("7 frames", "validation_frames")),
            (clip(q, k, v), dict(validation_frames=0), "--validation-frames"),
            (clip(q, k, v), dict(output_activation="identity"), "--output-activation"),
            (clip(q, k, v), dict(learning_rate=0), "--learning-rate"),
            (clip(q, k, v), dict(initial="grid"), "--initial"),
            (clip(q, k, v), dict(place_steps=-1), "--place-steps"),
            (clip(q, k, v), dict(batch_clips=-1), "--batch-clips"),
            (clip(q, k, v), dict(isa="z80"), "--isa"),
        ):
            with self.subTest(arguments=arguments, options=options):
                self.assert_refused(*arguments, *self.small(**options), *weights, command="distill", says=says)
        self.assert_refused(*clip(q, k, v), "--out", self.folder / "no" / "out", command="distill", says="no/out")
