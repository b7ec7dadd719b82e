"""The script that tabulates what the options of distill buy."""
import json
import shlex
import subprocess
import sys

from cli import support

SCRIPT = support.TESTS.parent / "examples" / "cli" / "distill_table.py"


class DistillTable(support.CliTest):
    BASE = "chunk-frames=2 overlap-frames=1 validation-frames=2 hidden=12 features=10 steps=5"

    def run_script(self, *arguments, program=None):
        command = [sys.executable, SCRIPT, "--program", program or shlex.join(map(str, support.program)), *arguments]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)

    @property
    def triple(self):
        return ",".join(str(self.file(name)) for name in "qkv")

    def report(self, *options):
        done = support.run("distill", "--clip", self.triple, *options, "--out", self.folder / "phi_table", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_its_cells_are_what_distill_reports(self):
        settings = "", "features=6 chunk-frames=1", "keep-chunks teacher=full scale=0.3"
        done = self.run_script("--clip", self.triple, "--held-out", self.triple, "--seeds", 1, "--base", self.BASE, *settings)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")]
        self.assertEqual(rows[0], ["setting", *(f"head {h}" for h in range(self.H)), "seconds"])
        names = [row[0] for row in rows[2:]]
        self.assertEqual([name.partition("; ")[0] for name in names[2::3]], ["base", *settings[1:]])
        cells = [[[float(x) for x in cell.split(" / ")] for cell in row[1:-1]] for row in rows[2:]]
        for i, setting in enumerate(settings):
            options = dict(word.partition("=")[::2] for word in (self.BASE + " " + setting).split())
            report = self.report(*(word for name, value in options.items() for word in ("--" + name, value) if word))
            chunks = f"{report['teacher']}, chunks of {report['chunk_frames']}, overlap 1"
            self.assertEqual(names[3 * i:3 * i + 2], ["window alone; " + chunks, "elu1; " + chunks])
            for way, heads in zip(("window", "elu1", "distilled"), cells[3 * i:]):
                for (train, validation, held_out), head in zip(heads, report["heads"]):
                    self.assertAlmostEqual(train, head["train"][way], delta=6e-4)
                    self.assertAlmostEqual(validation, head["validation"][way], delta=6e-4)
                    # the same clip: the mean of both, weighted by the size of the teacher there
                    self.assertLessEqual(min(train, validation) - 1e-3, held_out)
                    self.assertLessEqual(held_out, max(train, validation) + 1e-3)

    def test_medians(self):
        done = self.run_script("--clip", self.triple, "--seeds", 3, "--base", self.BASE, "steps=8")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        cells = done.stdout.splitlines()[-1].split("|")
        base = [word for pair in (self.BASE + " seed={}").split() for word in ("--" + pair).split("=")]
        base[base.index("--steps") + 1] = "8"
        reports = [self.report(*(word.format(seed) for word in base)) for seed in range(3)]
        for h in range(self.H):
            parts = [sorted(report["heads"][h][part]["distilled"] for report in reports)[1] for part in ("train", "validation")]
            self.assertEqual(cells[2 + h].strip(), " / ".join(f"{value:.3f}" for value in parts))

    def test_refusals(self):
        clip = ["--clip", self.triple]
        for arguments, says in (([*clip, "--seeds", 0, ""], "--seeds"), (["--clip", "a,b", ""], "Q,K,V"),
                                ([*clip, "no-such=1"], "exit status 2"), ([*clip], "SETTING")):
            with self.subTest(arguments=arguments):
                done = self.run_script(*arguments)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(says, done.stderr)
        self.assertIn("--program", self.run_script(*clip, "", program=self.folder / "missing").stderr)
