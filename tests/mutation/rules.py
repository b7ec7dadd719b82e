"""The rules that make mutants of a C++ file, applied inside function bodies only. README.md states them in words."""

import dataclasses
import hashlib
import re

from tokens import CONTROL, tokenize

RELATIONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
BOUND = {"<": " - 1", "<=": " + 1", ">": " + 1", ">=": " - 1"}  # the other way gives the relation's neighbour
REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
ARITHMETIC = {"+": "-", "-": "+", "/": "*", "%": "/", "+=": "-=", "-=": "+=", "*=": "="}
LOGIC = {"&&": "||", "||": "&&"}
SWAPPED_WORDS = {"true": ("boolean", "false"), "false": ("boolean", "true")}
EXTREMA = {"max": "min", "min": "max"}
END_OF_OPERAND = {";", ",", "&&", "||", "?", ":", "<", "<=", ">", ">=", "==", "!="}
NO_EXPRESSION = {"return", "const", "constexpr", "auto", "static", "using", "struct", "template", "typename", "break",
                 "else", "if", "for", "while", "switch", "do", "case", "default", "public", "private"}
DECLARATION = re.compile(r"(?:typename )?[\w:]+(?:<[^;=()]*>)?(?:::\w+)?[&*]* \w+\s*(?:[=;,{(\[]|$)")


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str  # relative to the repository
    function: str
    rule: str
    original: str  # the mutated line or statement, white space collapsed
    mutated: str
    begin: int  # source[begin:end] becomes replacement
    end: int
    replacement: str
    occurrence: int = 0  # among mutants that all of the above cannot tell apart

    def key(self):
        """What tells mutants apart even after lines have moved."""
        return (self.file, self.function, self.rule, self.original, self.mutated)

    def id(self):
        digest = hashlib.sha256("\0".join((*self.key(), str(self.occurrence))).encode()).hexdigest()
        return f"{self.file.rsplit('/', 1)[-1].split('.')[0]}-{self.rule}-{digest[:5]}"

    def apply(self, source):
        return source[:self.begin] + self.replacement + source[self.end:]


def collapsed(text):
    return " ".join(text.split())


def line_mutant(source, file, function, rule, begin, end, replacement):
    """A mutant that is told by its line, or its lines."""
    first = source.rfind("\n", 0, begin) + 1
    last = source.find("\n", end)
    return Mutant(file, function, rule, collapsed(source[first:last]),
                  collapsed(source[first:begin] + replacement + source[end:last]), begin, end, replacement)


def operand_end(tokens, index):
    """Index after the operand that starts at index: up to what binds less than arithmetic."""
    at = index
    while at < len(tokens):
        token = tokens[at]
        if token.text in (")", "]", "}"):
            return at
        if token.text in END_OF_OPERAND and (token.binary or token.text in (";", ",")):
            return at
        at = token.partner + 1 if token.partner > at else at + 1
    return at


def operand_begin(tokens, index):
    """Index of the first token of the operand that ends before index."""
    at = index - 1
    while at >= 0:
        token = tokens[at]
        if token.text in ("(", "[", "{", "return") or (token.binary and (token.text in END_OF_OPERAND
                                                                       or token.text == "=")):
            return at + 1
        if token.text in (";", ","):
            return at + 1
        at = token.partner - 1 if 0 <= token.partner < at else at - 1
    return 0


def text_of(tokens, begin, end):
    return " ".join(token.text for token in tokens[begin:end])


def is_extremum(tokens, index):
    """Whether the comparison at index is that of `a < b ? a : b`, or with the results swapped."""
    question = operand_end(tokens, index + 1)
    if question >= len(tokens) or tokens[question].text != "?":
        return False
    colon = operand_end(tokens, question + 1)
    if tokens[colon].text != ":":
        return False
    compared = [text_of(tokens, operand_begin(tokens, index), index), text_of(tokens, index + 1, question)]
    results = [text_of(tokens, question + 1, colon),
               text_of(tokens, colon + 1, operand_end(tokens, colon + 1))]
    return compared in (results, results[::-1])


def of_relation(tokens, index):
    """A comparison and its neighbour; the bound on its right off by one; a minimum for a maximum."""
    token = tokens[index]
    if tokens[index - 1].text in ("template", "operator"):
        return
    if token.text in REVERSED and is_extremum(tokens, index):
        # the neighbour would differ only where both are equal, and then so are the results
        yield "extremum", token.begin, token.end, REVERSED[token.text]
    else:
        yield "relation", token.begin, token.end, RELATIONS[token.text]
    end = operand_end(tokens, index + 1)
    operand = tokens[index + 1:end]
    floating = any(t.kind == "number" and re.search(r"[.f]", t.text) for t in operand)
    if token.text in BOUND and not floating:
        yield "bound", operand[-1].end, operand[-1].end, BOUND[token.text]


def of_number(token):
    """0 and 1 for each other, other integers off by one either way."""
    if token.text in ("0.0f", "1.0f"):
        yield "constant", token.begin, token.end, "1.0f" if token.text == "0.0f" else "0.0f"
    integer = re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)(u?)", token.text)
    if not integer:
        return
    value = int(integer[1], 0)

    def written(number):
        return (f"0x{number:X}" if integer[1].startswith("0x") else str(number)) + integer[2]

    if value <= 1:
        yield "constant", token.begin, token.end, written(1 - value)
    if value >= 1:
        yield "literal", token.begin, token.end, written(value + 1)
    if value >= 2:
        yield "literal", token.begin, token.end, written(value - 1)


def factor_end(tokens, index):
    """Index after one factor: a name or number with its members, calls and subscripts, or a bracket."""
    at = index
    while at < len(tokens):
        token = tokens[at]
        if token.text in ("(", "[", "{"):
            at = token.partner + 1
        elif token.kind in ("word", "number") or token.text in ("::", ".", "->"):
            at += 1
        elif token.text in ("-", "!") and at == index:
            at += 1
        else:
            return at
        if at < len(tokens) and tokens[at].binary:
            return at
    return at


def of_sign(tokens, index):
    token = tokens[index]
    if token.binary and token.text in RELATIONS:
        yield from of_relation(tokens, index)
    elif token.binary and token.text in ARITHMETIC:
        yield "arithmetic", token.begin, token.end, ARITHMETIC[token.text]
    elif token.binary and token.text == "*":
        yield "factor", tokens[index - 1].end, tokens[factor_end(tokens, index + 1) - 1].end, ""
    elif token.binary and token.text in LOGIC:
        yield "logic", token.begin, token.end, LOGIC[token.text]
    elif token.text == "!":
        yield "logic", token.begin, token.end, ""


def statement_end(tokens, index):
    """Index of the semicolon if an expression statement starts at index, else None."""
    token = tokens[index]
    before = tokens[index - 1]
    if token.opener < 0 or tokens[token.opener].text != "{" or token.text in ("{", "}", ";", "."):
        return None
    header = before.text == ")" and tokens[before.partner - 1].text in CONTROL
    if not (before.text in (";", "{", "}", "else") or header):
        return None
    early_return = header and token.text == "return" and tokens[before.partner - 1].text != "switch"
    if token.text in NO_EXPRESSION and not early_return:
        return None
    at = index
    while tokens[at].text != ";":
        if tokens[at].text in (")", "]", "}"):
            return None
        at = tokens[at].partner + 1 if tokens[at].partner > at else at + 1
    return at


def of_statement(source, tokens, index):
    """An expression statement, or the body of an `if` that leaves early, deleted."""
    end = statement_end(tokens, index)
    token = tokens[index]
    if end is None or DECLARATION.match(source[token.begin:tokens[end].end]) and token.text != "return":
        return
    if token.text == "REHYAT_UNROLL":
        return
    yield "statement", token.begin, tokens[end].begin, ""


def mutants_of(source, file):
    """All mutants of a file, in its order."""
    tokens = tokenize(source)
    found = []
    for index, token in enumerate(tokens):
        if not token.function or index == 0:
            continue
        changes = list(of_statement(source, tokens, index))
        if token.kind == "sign":
            changes += of_sign(tokens, index)
        elif token.kind == "number":
            changes += of_number(token)
        elif token.text in SWAPPED_WORDS:
            rule, other = SWAPPED_WORDS[token.text]
            changes.append((rule, token.begin, token.end, other))
        elif token.text in EXTREMA and tokens[index + 1].text == "(":
            changes.append(("extremum", token.begin, token.end, EXTREMA[token.text]))
        found += [line_mutant(source, file, token.function, *change) for change in changes]
    return numbered(found)


def numbered(mutants):
    seen = {}
    result = []
    for mutant in mutants:
        count = seen.get(mutant.key(), 0)
        seen[mutant.key()] = count + 1
        result.append(dataclasses.replace(mutant, occurrence=count))
    return result
