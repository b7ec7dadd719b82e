"""The committed list of survivors, each with the reason why it is equivalent.

Paragraphs of four lines, told by their text and not by its place:

    include/rehyat/kernel/attend.hpp, keys_leave_cache, relation
    - return keys > 100;
    + return keys >= 100;
    = Only speed: what is asked for ahead.

A paragraph may hold several pairs of - and + lines, of one file, function and reason; the rule may be `any`. Lines
that start with # say something about what follows.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Known:
    file: str
    function: str
    rule: str
    original: str
    mutated: str
    reason: str

    def matches(self, mutant):
        return (mutant.key()[0], mutant.key()[1], mutant.original, mutant.mutated) == (
            self.file, self.function, self.original, self.mutated) and self.rule in ("any", mutant.key()[2])


def parse(text, name):
    """All entries of the file's text."""
    entries = []
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        head = [part.strip() for part in lines[0].split(",")]
        pairs = [line[2:] for line in lines[1:] if line[:2] in ("- ", "+ ")]
        reason = " ".join(line[2:] for line in lines[1:] if line[:2] == "= ")
        signs = "".join(line[0] for line in lines[1:])
        if len(head) != 3 or not reason or signs.rstrip("=") != "-+" * (len(pairs) // 2):
            raise ValueError(f"{name}: this is not `file, function, rule`, then lines of -, + and =:\n{paragraph}")
        entries += [Known(*head, original, mutated, reason) for original, mutated in zip(pairs[::2], pairs[1::2])]
    return entries
