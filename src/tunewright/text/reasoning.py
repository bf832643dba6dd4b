"""An answer as a model writes it -> its reasoning and the answer proper, whole or piece by piece.

split_reasoning("<think>\\nhm\\n</think>\\n\\nYes")      ("hm", "Yes")
"".join(answer_pieces(["<thi", "nk>hm</think>", "\\n\\nYes"]))      "Yes"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BEGINS, ENDS = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str, str]:
    """(what stands in `<think>`, the answer behind it). A block that was never closed is reasoning altogether."""
    before, closed, behind = text.rpartition(ENDS)
    if closed:
        return before.replace(BEGINS, "").replace(ENDS, "").strip(), behind.lstrip("\n")
    if text.lstrip().startswith(BEGINS):
        return text.replace(BEGINS, "").strip(), ""
    return "", text


def answer_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The answer's pieces, those of a reasoning block before it left out."""
    text, given = "", 0
    for piece in pieces:
        text += piece
        if BEGINS.startswith(text.strip()[: len(BEGINS)]) and len(text.strip()) < len(BEGINS):
            continue  # it may become a reasoning block
        answer = split_reasoning(text)[1]
        yield answer[given:]
        given = max(given, len(answer))
    yield split_reasoning(text)[1][given:]
