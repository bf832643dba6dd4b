"""A text -> its sentences: what next-sentence prediction is made of.

sentences('He left. "Why?" she asked.\\nNobody knew.')     ['He left.', '"Why?" she asked.', 'Nobody knew.']

By rule: a line's end ends a sentence, and so does . ! or ? (with closing quotes or brackets) before a blank and something that may begin
one. Scripts that write 。！？ need no blank. Abbreviations are not known: `Dr. Who` is cut, which costs this task little.
"""

from __future__ import annotations

import re

_END = re.compile(r"""(?<=[.!?…])(?P<close>["'”’»)\]]*)\s+(?=["'“‘«(\[]*[^\W_a-zß-öø-ÿ])|(?<=[。！？])""")


def sentences(text: str) -> list[str]:
    """The sentences of a text, none of them blank; joined by blanks they are the text up to runs of blanks."""
    found = []
    for line in text.split("\n"):
        start = 0
        for match in _END.finditer(line):
            stop = match.end("close") if match["close"] is not None else match.end()
            found.append(line[start:stop].strip())
            start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]
