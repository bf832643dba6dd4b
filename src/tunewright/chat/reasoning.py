"""A generated answer -> its reasoning and the answer proper, as a whole or piece by piece.

split_reasoning("<think>\\nhm\\n</think>\\n\\nYes")      ("hm", "Yes")
"".join(answer_pieces(["<thi", "nk>hm</think>", "\\n\\nYes"]))      "Yes"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BEGINS, ENDS = "<think>", "</think>"


def opens_reasoning(prompt: str) -> bool:
    """Does a rendered prompt end inside a reasoning block, which the answer continues?"""
    return prompt.rstrip().endswith(BEGINS)


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str, str]:
    """(the text in `<think>`, the answer after it). A block that was never closed is all reasoning.

    opened: the prompt has already begun the block.
    """
    before, closed, behind = text.rpartition(ENDS)
    if closed:
        return before.replace(BEGINS, "").replace(ENDS, "").strip(), behind.lstrip("\n")
    if opened or text.lstrip().startswith(BEGINS):
        return text.replace(BEGINS, "").strip(), ""
    return "", text


def answer_pieces(pieces: Iterable[str], *, opened: bool = False) -> Iterator[str]:
    """The answer's pieces, without a reasoning block before it. opened: the prompt has already begun that block.

    A block without a beginning is recognized by its end: the pieces given so far were reasoning, and the whole answer follows.
    """
    text, given, closed = "", 0, False
    for piece in pieces:
        text += piece
        if BEGINS.startswith(text.strip()[: len(BEGINS)]) and len(text.strip()) < len(BEGINS):
            continue  # it may become a reasoning block
        if ENDS in text and not closed:
            given, closed = 0, True
        answer = split_reasoning(text, opened=opened)[1]
        yield answer[given:]
        given = max(given, len(answer))
    yield split_reasoning(text, opened=opened)[1][given:]
