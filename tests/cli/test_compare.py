"""The subcommand compare."""
import json

import numpy as np

from cli import support


class Compare(support.CliTest):

    def setUp(self):
        rng = np.random.default_rng(2)
        self.a = rng.standard_normal((self.T, self.M, self.H, self.DV)).astype(np.float32)
        self.b = self.a + 0.1 * rng.standard_normal(self.a.shape).astype(np.float32)
        self.files = [self.save("a", self.a), self.save("b", self.b)]

    def compare(self, *arguments):
        done = support.run("compare", *arguments, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def check(self, report, a, b):
        a, b = a.astype(float), b.astype(float)
        heads = [(a[:, :, h].ravel(), b[:, :, h].ravel()) for h in range(a.shape[2])] + [(a.ravel(), b.ravel())]
        for key, measure in (("relative_l1", lambda x, y: np.abs(x - y).sum() / np.abs(x).sum()),
                             ("relative_l2", lambda x, y: np.linalg.norm(x - y) / np.linalg.norm(x)),
                             ("cosine", lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y))):
            np.testing.assert_allclose([*report[key + "_by_head"], report[key]], [measure(*head) for head in heads],
                                       rtol=1e-9, err_msg=key)

    def test_two_files(self):
        self.check(self.compare(*self.files), self.a, self.b)
        same = self.compare(self.files[0], self.save("a_rank3", self.a.reshape(-1, self.H, self.DV)))
        self.assertEqual((same["relative_l1"], same["relative_l2"]), (0, 0))
        self.assertAlmostEqual(same["cosine"], 1)
        zeros = self.save("zeros", np.zeros_like(self.a))
        self.assertEqual(self.compare(zeros, zeros)["relative_l2"], 0)
        self.assertIsNone(self.compare(zeros, zeros)["cosine"])
        text = support.run("compare", *self.files).stdout.splitlines()
        self.assertEqual([line.split()[0] for line in text], ["head", *map(str, range(self.H)), "all"])

    def test_first_frame(self):
        self.check(self.compare(*self.files, "--first-frame", 3), self.a[3:], self.b[3:])

    def test_a_file_and_a_run(self):
        out = self.folder / "second.npy"
        report = self.compare(self.files[0], *self.clip(), "--schedule", "softmax", "--out", out)
        self.check(report, self.a, np.load(out))
        self.assertEqual(report["run"]["schedule"], "softmax")
        recurrent = self.folder / "recurrent.npy"
        support.run("attend", *self.clip(), *self.phi, "--out", recurrent, "--mode", "recurrent")
        self.assertEqual(self.compare(recurrent, *self.clip(), *self.phi)["relative_l1"], 0)

    def test_refusals(self):
        a, b = self.files
        small = self.save("small", self.a[:, :, :2])
        for arguments, says in (
            ([], "files"), ([a], "second"), ([a, b, a], ()), ([a, "missing.npy"], "missing.npy"),
            ([a, small], ("small.npy", "[7, 6, 2, 12]")), ([a, b, "--schedule", "softmax"], "not both"),
            ([a, "--schedule", "softmax"], "--q"), ([a, *self.clip()], "--phi"),
            ([small, *self.clip(), *self.phi], "second run"), ([a, b, "--no-such"], "--no-such"),
            ([a, *self.clip(), "--schedule", "softmax", "--rate", 2], "--rate"),
            ([a, b, "--first-frame", self.T], ("a.npy", "[7, 6, 4, 12]", "--first-frame 7")),
            ([a, b, "--first-frame", -1], "--first-frame"),
            ([self.save("a3", self.a.reshape(-1, self.H, self.DV)), b, "--first-frame", 1], "a3.npy"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(*arguments, command="compare", says=says)
