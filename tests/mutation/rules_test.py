"""What the rules make of a few lines."""

import unittest

from rules import mutants_of
from survivors import parse


def changes(body, *rules):
    """Mutated lines of a function with this body, of these rules."""
    source = f"namespace n {{\ninline void f(int argument = 1) {{\n{body}\n}}\n}}\n"
    found = mutants_of(source, "x.hpp")
    for mutant in found:
        assert mutant.apply(source) != source and mutant.function == "f", mutant
    return sorted(m.mutated for m in found if m.rule in rules)


class RulesTest(unittest.TestCase):
    def test_comparisons_but_no_template_brackets(self):
        self.assertEqual(changes("if (a < b) g<C>(x);", "relation", "bound"),
                         ["if (a < b - 1) g<C>(x);", "if (a <= b) g<C>(x);"])
        self.assertEqual(changes("c = x != y;", "relation", "bound"), ["c = x == y;"])
        self.assertEqual(changes("c = x > 0.5f;", "relation", "bound"), ["c = x >= 0.5f;"])

    def test_a_minimum_becomes_a_maximum(self):
        self.assertEqual(changes("c = a - d < n ? a - d : n;", "relation", "extremum"), ["c = a - d > n ? a - d : n;"])
        self.assertEqual(changes("c = a < n ? a : b;", "relation", "extremum"), ["c = a <= n ? a : b;"])
        self.assertEqual(changes("c = max(a, b.max);", "extremum"), ["c = min(a, b.max);"])

    def test_arithmetic_but_no_pointers_and_signs(self):
        self.assertEqual(changes("float* x = -y + a * b.c(d)[1] % 2;", "arithmetic", "factor"),
                         ["float* x = -y + a % 2;", "float* x = -y + a * b.c(d)[1] / 2;",
                          "float* x = -y - a * b.c(d)[1] % 2;"])

    def test_logic_and_numbers(self):
        self.assertEqual(changes("c = !a && true;", "logic", "boolean"),
                         ["c = !a && false;", "c = !a || true;", "c = a && true;"])
        self.assertEqual(changes("c = g(0, 7, 0.0f, 0.5f);", "constant", "literal"),
                         ["c = g(0, 6, 0.0f, 0.5f);", "c = g(0, 7, 1.0f, 0.5f);", "c = g(0, 8, 0.0f, 0.5f);",
                          "c = g(1, 7, 0.0f, 0.5f);"])

    def test_statements_but_no_declarations(self):
        self.assertEqual(changes("const int c = 2;\nstd::vector<int> d(c);\nif (c) return;\n++c;\nfor (;;) g(c);",
                                 "statement"), [";", "for (;;) ;", "if (c) ;"])
        self.assertEqual(changes("each(n, [&](int i) {\n  g(i);\n});", "statement"), [";", ";"])
        self.assertEqual(changes("return {.a = b};", "statement"), [])

    def test_nothing_outside_of_bodies_and_in_comments(self):
        self.assertEqual(changes('// a < b\ng("a < b");\nstatic_assert(1 < 2);', "relation", "literal", "constant"), [])
        self.assertEqual(mutants_of("struct S {\n  int a = 1 + 2;\n};\n", "x.hpp"), [])

    def test_ids_differ_and_do_not_depend_on_the_place(self):
        body = "a = b + c;\na = b + c;"
        ids = [m.id() for m in mutants_of(f"void f() {{\n{body}\n}}\n", "x.hpp")]
        self.assertEqual(len(set(ids)), 4)
        self.assertEqual(ids, [m.id() for m in mutants_of(f"\n// more\nvoid f() {{\n  {body}\n}}\n", "x.hpp")])


class SurvivorsTest(unittest.TestCase):
    def test_reads_pairs_of_lines(self):
        entries = parse("# why\na.hpp, f, any\n- x < 1\n+ x <= 1\n- y\n+ z\n= never 1,\n= nor y\n\n\n", "list")
        self.assertEqual([(e.original, e.mutated, e.reason) for e in entries],
                         [("x < 1", "x <= 1", "never 1, nor y"), ("y", "z", "never 1, nor y")])

    def test_refuses_what_it_does_not_understand(self):
        for text in ("a.hpp, f\n- x\n+ y\n= z", "a.hpp, f, any\n- x\n= z", "a.hpp, f, any\n- x\n+ y",
                     "a.hpp, f, any\n+ x\n- y\n= z"):
            with self.assertRaises(ValueError):
                parse(text, "list")


if __name__ == "__main__":
    unittest.main()
