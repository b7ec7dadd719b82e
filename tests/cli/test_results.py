"""What is computed depends on the inputs alone."""
import numpy as np

from cli import support


class Results(support.CliTest):

    def test_recurrent_equals_one_shot(self):
        features = [self.phi, support.flags(feature_map="relu"), self.given("phi_q", "phi_k"),
                    self.given("phi_q", "phi_k", "phi_q_den", "phi_k_den")]
        for i, (chunk, overlap) in enumerate([(3, 1), (2, 0), (1, 3), (2, 5), (7, 2), (4, 9), (1, 0), (30, 1)]):
            for schedule in ("hybrid", "linear"):
                options = [*features[i % 4], *support.flags(schedule=schedule, chunk_frames=chunk)]
                options += support.flags(overlap_frames=overlap) if schedule == "hybrid" else []
                with self.subTest(options=options):
                    one_shot, a = self.attend(*options, *support.flags(mode="oneshot", threads=2))
                    recurrent, b = self.attend(*options, *support.flags(mode="recurrent", repeat=2))
                    self.assert_same_bits(one_shot, recurrent)
                    for key in ("state_bytes", "min_denominator", "min_abs_denominator", "nan_denominators"):
                        self.assertEqual(a[key], b[key], key)
                    self.assertGreater(a["state_bytes"], 0)

    def test_threads_and_repeats_do_not_matter(self):
        for options in (support.flags(schedule="softmax"), [*self.phi, *support.flags(direction="bidirectional")]):
            one, report = self.attend(*options)
            self.assertEqual((report["threads"], report["repeat"], report["state_bytes"]), (1, 1, 0))
            three, report = self.attend(*options, *support.flags(threads=3, repeat=4))
            self.assertEqual((report["threads"], report["repeat"]), (3, 4))
            self.assert_same_bits(one, three)

    def test_instruction_sets_agree(self):
        results = {}
        for isa in support.isas:
            results[isa], report = self.attend(*self.phi, *support.flags(isa=isa))
            self.assertEqual(report["isa"], isa)
            np.testing.assert_allclose(results[isa], results["scalar"], rtol=0, atol=2e-6 * np.abs(results[isa]).max())
        best, report = self.attend(*self.phi, *support.flags(isa="auto"))
        self.assert_same_bits(best, results[report["isa"]])

    def test_arithmetic(self):
        exact, report = self.attend(*self.phi)
        self.assertEqual((report["arithmetic"], report["storage"]), ("float32", "f32"))
        self.assert_same_bits(exact, self.attend(*self.phi, "--arithmetic", "float32")[0])
        for mode in ("oneshot", "recurrent"):  # the portable kernels have it on every processor
            out, report = self.attend(*self.phi, *support.flags(arithmetic="int8", isa="scalar", mode=mode))
            self.assertEqual((report["arithmetic"], report["isa"]), ("int8", "scalar"))
            error = np.linalg.norm(out - exact) / np.linalg.norm(exact)
            self.assertLess(error, 2e-2)
            self.assertGreater(error, 1e-4)

    def test_storage(self):
        for storage, keep in (("f16", lambda x: x.astype(np.float16)), ("bf16", support.as_bfloat16)):
            rounded = support.flags(**{name: self.save(f"{name}_{storage}", keep(self.arrays[name]).astype(np.float32))
                                       for name in "qkv"})
            for mode in ("oneshot", "recurrent"):
                out, report = self.attend(*self.phi, *support.flags(storage=storage, mode=mode))
                self.assertEqual(report["storage"], storage)
                self.assert_same_bits(out, self.attend(*self.phi, *support.flags(mode=mode), clip=rounded)[0])

    def test_file_types_and_ranks(self):
        half = {name: self.arrays[name].astype(np.float16) for name in "qkv"}
        results = []
        for dtype in (np.float16, np.float32, np.float64):
            clip = support.flags(**{
                name: self.save(f"{name}_{dtype.__name__}", array.astype(dtype))
                for name, array in half.items()
            })
            results.append(self.attend(*self.phi, clip=clip)[0])
        self.assert_same_bits(results[0], results[1])
        self.assert_same_bits(results[0], results[2])

        rank4, report = self.attend(*self.phi)
        self.assertEqual(rank4.shape, (self.T, self.M, self.H, self.DV))
        self.assert_same_bits(rank4, self.attend(*self.phi, *support.flags(frames=self.T))[0])
        rank3, report3 = self.attend(*self.phi, *support.flags(frames=self.T), clip=self.clip("_rank3"))
        self.assertEqual(rank3.shape, (self.T * self.M, self.H, self.DV))
        self.assert_same_bits(rank3.reshape(rank4.shape), rank4)
        self.assertEqual((report["frames"], report["tokens_per_frame"]), (self.T, self.M))
        self.assertEqual((report3["frames"], report3["tokens_per_frame"]), (self.T, self.M))

    def test_cross_attention(self):
        q = self.arrays["q"].reshape(-1, self.H, self.D)[:5]
        clip = ["--q", self.save("few", q), *self.clip("_rank3")[2:]]
        out, report = self.attend("--schedule", "softmax", "--scale", 0.25, clip=clip)
        self.assertEqual((report["frames"], report["tokens_per_frame"], report["keys"]), (1, 5, self.T * self.M))
        k, v = (np.repeat(self.arrays[name].reshape(self.T * self.M, self.HKV, -1), self.H // self.HKV, axis=1)
                for name in "kv")
        weights = np.exp(0.25 * np.einsum("qhd,khd->hqk", q.astype(float), k.astype(float)))
        expected = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=2, keepdims=True), v.astype(float))
        np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6 * np.abs(expected).max())

    def test_denominator_options(self):
        linear = support.flags(schedule="linear", feature_map="elu1")
        plain, report = self.attend(*linear)
        least = report["min_denominator"]
        for option in ("denominator_epsilon", "denominator_floor"):
            changed, _ = self.attend(*linear, *support.flags(**{option: 1e6 * least}))
            self.assertLess(np.abs(changed).max(), np.abs(plain).max() / 100, option)

    def test_text(self):
        out = self.folder / "text.npy"
        done = support.run("attend", *self.clip(), *self.phi, "--out", out)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("hybrid", "7 frames of 6 tokens", "GFLOP/s", "bytes of state", "bytes of workspace", "denominator",
                     "median"):
            self.assertIn(word, done.stdout)
        out.unlink()
