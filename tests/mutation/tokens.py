"""C++ as a list of tokens: what the rules of this folder need to know of the language, and no more.

Comments, preprocessor lines and static_assert are left out. Spaces matter: the code is formatted by clang-format, so
that a binary operator has white space on both sides, and a template's bracket or a unary operator has not.
"""

import dataclasses
import re

PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<directive>(?<=\n)\#(?:\\\n|[^\n])*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>0x[0-9a-fA-F.]+(?:p[-+]?[0-9]+)?[fuUlL]*|[0-9][0-9.']*(?:e[-+]?[0-9]+)?[fuUlL]*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign><<=|>>=|<=>|\.\.\.|::|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\sA-Za-z0-9_])""",
    re.VERBOSE | re.DOTALL)

OPENING = {"(": ")", "[": "]", "{": "}"}
CONTROL = {"if", "for", "while", "switch", "catch", "constexpr"}


@dataclasses.dataclass
class Token:
    kind: str  # text, number, word or sign
    text: str
    begin: int  # offsets in the file
    end: int
    binary: bool = False  # white space on both sides
    function: str = ""  # the named function whose body this is in; empty outside of bodies
    opener: int = -1  # index of the innermost bracket that is open here
    partner: int = -1  # of a bracket: index of the other one


def tokenize(source):
    """All tokens of a file, with their brackets matched and their functions named."""
    tokens = []
    position = 0
    while position < len(source):
        match = PATTERN.match(source, position)
        if match.lastgroup in ("text", "number", "word", "sign"):
            around = source[max(position - 1, 0):position] + source[match.end():match.end() + 1]
            tokens.append(Token(match.lastgroup, match.group(), position, match.end(),
                                binary=len(around) == 2 and around.isspace()))
        position = match.end()
    tokens = without_static_asserts(tokens)
    match_brackets(tokens)
    name_functions(tokens)
    return tokens


def without_static_asserts(tokens):
    kept = []
    skipping = False
    for token in tokens:
        skipping = skipping or token.text == "static_assert"
        if not skipping:
            kept.append(token)
        elif token.text == ";":
            skipping = False
    return kept


def match_brackets(tokens):
    open_ones = []
    for index, token in enumerate(tokens):
        if token.text in OPENING.values() and token.kind == "sign":
            if not open_ones or OPENING[tokens[open_ones[-1]].text] != token.text:
                raise ValueError(f"unmatched {token.text} at offset {token.begin}")
            token.partner = open_ones.pop()
            tokens[token.partner].partner = index
        token.opener = open_ones[-1] if open_ones else -1
        if token.text in OPENING and token.kind == "sign":
            open_ones.append(index)


def function_opened_at(tokens, brace):
    """The name of the function whose body starts at this brace; None for lambdas, classes and the like."""
    before = brace - 1
    while before > 0 and tokens[before].text in ("const", "noexcept", "override"):
        before -= 1
    if tokens[before].text != ")" or tokens[before].partner < 1:
        return None
    name = tokens[tokens[before].partner - 1]
    return name.text if name.kind == "word" and name.text not in CONTROL else None


def name_functions(tokens):
    for index, token in enumerate(tokens):
        if token.text != "{" or token.kind != "sign" or token.function:
            continue
        name = function_opened_at(tokens, index)
        if name:
            for inner in tokens[index + 1:token.partner]:
                inner.function = name
