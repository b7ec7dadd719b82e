"""Which options go together."""
from cli import support


class Combinations(support.CliTest):
    SCHEDULES = ("hybrid", "softmax", "linear", "uniform")
    # per option, whether each schedule takes it
    TABLE = {
        "--chunk-frames 2": (True, False, True, False),
        "--overlap-frames 2": (True, False, False, False),
        "--rate 3": (False, False, False, True),
        "--direction causal": (True, False, True, False),
        "--direction bidirectional": (True, False, True, False),
        "--mode recurrent": (True, False, True, False),
        "--stabilizer row_max": (True, False, False, True),
        "--stabilizer none": (True, False, False, True),
        "--scale 0.5": (True, True, False, True),
        "--arithmetic float32": (True, True, False, True),
        "--denominator-epsilon 0.5": (True, False, True, True),
        "--denominator-floor 0.5": (True, False, True, True),
        "--feature-map elu1": (True, False, True, True),
    }

    def base(self, schedule):
        """The least that a schedule needs, but for its feature map."""
        return ["--schedule", schedule] + (["--rate", "2"] if schedule == "uniform" else [])

    def test_options_by_schedule(self):
        for text, takes in self.TABLE.items():
            for schedule, taken in zip(self.SCHEDULES, takes):
                option = text.split()
                arguments = ["--schedule", schedule] if option[0] == "--rate" else self.base(schedule)
                if schedule != "softmax" and option[0] != "--feature-map":
                    arguments += ["--feature-map", "relu"]
                with self.subTest(option=text, schedule=schedule):
                    if taken:
                        self.attend(*arguments, *option)
                    else:
                        self.assert_refused(*self.clip(), *arguments, *option, says=(option[0], schedule))

    def test_feature_maps_are_required(self):
        for schedule in ("hybrid", "linear", "uniform"):
            self.assert_refused(*self.clip(), *self.base(schedule), says=(schedule, "--phi", "--feature-map"))
        self.assert_refused(*self.clip(), says="--phi")

    def test_feature_maps_exclude_each_other(self):
        elu, both = support.flags(feature_map="elu1"), self.given("phi_q", "phi_k")
        dens = self.given("phi_q_den", "phi_k_den")
        for arguments, says in (
            ([*self.phi, *elu], ("--phi", "--feature-map")),
            ([*self.phi, *both], ("--phi ", "--phi-q")),
            ([*elu, *both], ("--feature-map", "--phi-q")),
            ([*self.phi, *self.given("phi_k")], ("--phi ", "--phi-k")),
            (self.given("phi_q"), ("--phi-q", "--phi-k")),
            (self.given("phi_k"), ("--phi-q", "--phi-k")),
            ([*both, *self.given("phi_q_den")], ("--phi-q-den", "--phi-k-den")),
            ([*both, *self.given("phi_k_den")], ("--phi-q-den", "--phi-k-den")),
            ([*self.phi, *dens], ("--phi-q-den", "--phi-q ")),
            ([*elu, *dens], ("--phi-q-den", "--phi-q ")),
            (dens, "--phi"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(*self.clip(), *arguments, says=says)
        for schedule in ("hybrid", "linear", "uniform"):
            self.attend(*self.base(schedule), *both, *dens)
        for names in (("phi_q", "phi_k"), ("phi_q_den", "phi_k_den")):
            self.assert_refused(*self.clip(), *self.base("softmax"), *self.given(*names), says=("--phi", "softmax"))
        self.assert_refused(*self.clip(), *self.base("softmax"), *self.phi, says=("--phi", "softmax"))

    def test_recurrent_is_causal(self):
        for schedule in ("hybrid", "linear"):
            self.assert_refused(*self.clip(), *support.flags(schedule=schedule, feature_map="elu1", mode="recurrent",
                                                     direction="bidirectional"), says=("--mode", "--direction"))

    def test_denominators_are_kept_as_they_are_without_stabilizer(self):
        for schedule in ("hybrid", "uniform"):
            for option in ("denominator_epsilon", "denominator_floor"):
                self.assert_refused(*self.clip(), *self.base(schedule),
                                    *support.flags(feature_map="elu1", stabilizer="none", **{option: 0.5}),
                                    says=(option.replace("_", "-"), "--stabilizer none"))

    def test_uniform_needs_a_rate(self):
        self.assert_refused(*self.clip(), *support.flags(schedule="uniform", feature_map="elu1"), says="--rate")

    def test_the_table_is_in_help_and_readme(self):
        def words(text):
            return " ".join(text.split())

        helps = [support.run(*command, "--help") for command in ([], ["attend"], ["compare"])]
        for done in helps:
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("--mode recurrent if causal - if causal -", words(done.stdout))
        table = helps[1].stdout[helps[1].stdout.index("Which options go together"):]
        for page in ("README.md", "examples/cli/README.md"):
            self.assertIn(words(table), words((support.TESTS.parent / page).read_text()), page)
