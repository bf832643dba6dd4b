"""Conversation -> its rendering, and which characters of it the assistant writes: proven, never searched for.

    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>\\n
                                                        [         span          ]

Where a template marks the answers itself (`{% generation %}`), those are the spans. Elsewhere the proof is by substitution: the
conversation is rendered again with marks for contents. What stands between two marks is the template's own, and the same for all
conversations of that shape; a row is proven when its rendering is exactly these pieces with its own contents between them. Turns
that are more than a content (calls, reasoning) are proven one by one: everything before and after the turn must come out the same
when the turn is a mark. Nothing is assumed of prefixes: templates may rewrite what went before.

An answer begins where the template's prompt for it ends; a reasoning block that the prompt opens belongs to the answer.
It ends with the first control token behind it, its end-of-turn token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunewright.errors import RowError, UserError
from tunewright.text.hiding import Control, Hidden
from tunewright.text.messages import ASSISTANT, TOOL, Conversation, Message, ToolCall
from tunewright.text.templates import GENERATION_BEGINS, GENERATION_ENDS, Template

Span = tuple[int, int]
_FIRST_MARK = 0x10F000
_MARKS = re.compile("[\U0010f000-\U0010ffef]")
_GENERATION = re.compile(f"[{GENERATION_BEGINS}{GENERATION_ENDS}]")
_REASONING_OPENED = re.compile(r"<think>\s*(</think>\s*)?\Z")
_MOST_SHAPES = 2_048


@dataclass(frozen=True)
class Rendered:
    """text: what is tokenized. answers: the span of each of the assistant's turns. untrusted: control tokens that are text."""

    text: str
    answers: tuple[Span, ...] = ()
    untrusted: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Shape:
    """What a template writes around the contents of every conversation with these roles.

    pieces: texts before, between and behind the contents. begins: where in the piece before an answer the answer begins.
    ends: how much of the piece behind an answer still belongs to it.
    """

    pieces: tuple[str, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Supervisor:
    """Renders with one template and tells the answers. UserError for a template that cannot be proven, RowError for a row."""

    template: Template
    control: Control
    _shapes: dict[object, Shape] = field(default_factory=dict, repr=False, compare=False)
    _written: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def learned(self, conversation: Conversation) -> Rendered:
        """A conversation that is learned from: every turn rendered, every answer found."""
        self._check_tools(conversation)
        hidden = Hidden.of(conversation, self.control)
        text = self.template.render(hidden.conversation)
        answers = self._marked(text, hidden.conversation) if GENERATION_BEGINS in text else None
        text = _GENERATION.sub("", text)
        answers = self._proven(text, hidden.conversation) if answers is None else answers
        text, places, untrusted = hidden.restored(text, [place for span in answers for place in span], self.control)
        return Rendered(text, tuple(zip(places[::2], places[1::2], strict=True)), tuple(untrusted))

    def asked(self, conversation: Conversation) -> Rendered:
        """A conversation that is to be answered: with the beginning of the answer."""
        hidden = Hidden.of(conversation, self.control)
        text = _GENERATION.sub("", self.template.render(hidden.conversation, prompt=True))
        text, _, untrusted = hidden.restored(text, [], self.control)
        return Rendered(text, (), tuple(untrusted))

    def prompt_pieces(self) -> tuple[str, str]:
        """What the template writes before and behind the content of a single question."""
        mark = chr(_FIRST_MARK)
        text = self.template.render(Conversation((Message("user", mark),)), prompt=True)
        before, _, behind = _GENERATION.sub("", text).partition(mark)
        return before, behind

    def end_token(self) -> str:
        """The token that ends an answer. UserError where the template writes none."""
        mark = chr(_FIRST_MARK)
        text = self.template.render(Conversation((Message("user", "a"), Message(ASSISTANT, mark))))
        closing = self._closing(_GENERATION.sub("", text.rpartition(mark)[2]))
        return self.control.tokens.findall(closing)[-1]

    # Templates that mark the answers

    def _marked(self, text: str, conversation: Conversation) -> list[Span]:
        spans: list[Span] = []
        begun, length = None, 0
        for part in re.split(f"({_GENERATION.pattern})", text):
            if part == GENERATION_BEGINS:
                begun = length
            elif part == GENERATION_ENDS:
                assert begun is not None
                if spans and spans[-1][1] == begun:
                    begun = spans.pop()[0]
                spans.append((begun, length))
            else:
                length += len(part)
        if len(spans) != conversation.num_answers:
            raise RowError(f"the template marks {len(spans)} answers of {conversation.num_answers}")
        plain = _GENERATION.sub("", text)
        for begin, end in spans:
            found = [match.end() for match in self.control.tokens.finditer(plain, begin, end)]
            if not found or plain[found[-1] : end].strip():
                raise _refused(
                    "the answers it marks do not end with a control token of this tokenizer",
                    f"{plain[begin:end][-40:]!r}",
                )
        self._check_survival(plain, conversation)
        return spans

    # Templates that do not

    def _proven(self, text: str, conversation: Conversation) -> list[Span]:
        shape = self._shape(conversation)
        found = self._by_contents(text, conversation, shape)
        if found is None:
            found = [
                self._by_turn(text, conversation, shape, number)
                for number, one in enumerate(conversation.messages)
                if one.role == ASSISTANT
            ]
            self._check_survival(text, conversation)
        return found

    def _by_contents(self, text: str, conversation: Conversation, shape: Shape) -> list[Span] | None:
        """The rendering, rebuilt from the shape and the contents (stripped or not). None where it is not that."""
        if any(one.tool_calls or one.reasoning for one in conversation.messages):
            return None
        spans: list[Span] = []
        at, piece = len(shape.pieces[0]), 0
        if not text.startswith(shape.pieces[0]):
            return None
        for one in conversation.messages:
            before = at
            for content in self._contents(one):
                following = shape.pieces[piece + 1]
                kept = next((c for c in _as_rendered(content) if text.startswith(c + following, at)), None)
                if kept is None:
                    return None
                end = at + len(kept)
                at, piece = end + len(following), piece + 1
            if one.role == ASSISTANT:
                begin, tail = shape.begins[len(spans)], shape.ends[len(spans)]
                spans.append((before - len(shape.pieces[piece - 1]) + begin, end + tail))
        return spans if at == len(text) else None

    def _by_turn(self, text: str, conversation: Conversation, shape: Shape, number: int) -> Span:
        """The span of one turn: what changes when it is a mark instead."""
        messages, mark = conversation.messages, chr(_FIRST_MARK)
        marked = replace(conversation, messages=(*messages[:number], Message(ASSISTANT, mark), *messages[number + 1 :]))
        before, found, behind = _GENERATION.sub("", self.template.render(marked)).partition(mark)
        answer = sum(one.role == ASSISTANT for one in messages[:number])
        piece = sum(len(self._contents(one)) for one in messages[:number])
        begin, end = shape.begins[answer], shape.ends[answer]
        if (
            not found
            or not before.endswith(shape.pieces[piece])
            or not behind.startswith(shape.pieces[piece + 1][:end])
        ):
            raise RowError(f"what the template writes for turn {number + 1} cannot be told apart from its own text")
        start = len(before) - len(shape.pieces[piece]) + begin
        stop = len(text) - len(behind) + end
        if not text.startswith(before[:start]) or not text.endswith(behind) or start > stop - end:
            raise RowError(f"the template writes turn {number + 1} in a way that cannot be told apart from the others")
        return start, stop

    def _contents(self, message: Message) -> list[str]:
        if message.input and self.template.knows_inputs:
            return [message.content, message.input]
        return [self.template._values(message)["content"]]

    # What a template writes around contents

    def _shape(self, conversation: Conversation) -> Shape:
        roles = tuple((one.role, len(self._contents(one))) for one in conversation.messages)
        key = (roles, json.dumps(conversation.tools, sort_keys=True, default=str) if conversation.tools else None)
        if key not in self._shapes:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[key] = self._shape_of(conversation)
        return self._shapes[key]

    def _shape_of(self, conversation: Conversation) -> Shape:
        marked = self._with_marks(conversation)
        text = _GENERATION.sub("", self.template.render(marked))
        num_contents = sum(len(self._contents(one)) for one in conversation.messages)
        if _MARKS.findall(text) != [chr(_FIRST_MARK + number) for number in range(num_contents)]:
            raise self._dropped(text, marked)
        pieces = _MARKS.split(text)
        closing = len(self._closing(pieces[-1]))
        begins, ends, piece = [], [], 0
        for number, one in enumerate(marked.messages):
            if one.role == ASSISTANT:
                begins.append(self._begin(pieces[piece], replace(marked, messages=marked.messages[:number])))
                ends.append(closing)
                if not pieces[piece + 1].startswith(pieces[-1][:closing]):
                    raise _refused(
                        "it ends answers in different ways", f"{pieces[piece + 1]!r:.60}, {pieces[-1]!r:.60}"
                    )
            piece += len(self._contents(one))
        return Shape(tuple(pieces), tuple(begins), tuple(ends))

    def _with_marks(self, conversation: Conversation) -> Conversation:
        """The conversation with a mark for every content, in order, and nothing else in its turns."""
        messages, number = [], _FIRST_MARK
        for one in conversation.messages:
            two = len(self._contents(one)) == 2
            messages.append(
                Message(
                    one.role, chr(number), input=chr(number + 1) if two else None, name=one.name, call_id=one.call_id
                )
            )
            number += 1 + two
        return replace(conversation, messages=tuple(messages))

    def _begin(self, piece: str, before: Conversation) -> int:
        """Where in the piece before an answer the prompt for it ends, a reasoning block that the prompt opens left out."""
        prompt = _MARKS.split(_GENERATION.sub("", self.template.render(before, prompt=True)))[-1]
        prompt = _REASONING_OPENED.sub("", prompt)
        if not piece.startswith(prompt):
            raise _refused(
                "its prompt for an answer is not what stands before answers", f"{prompt!r:.60}, {piece!r:.60}"
            )
        return len(prompt)

    def _closing(self, behind: str) -> str:
        """What stands behind a content up to and with its end token (several where they touch). UserError where there is none."""
        match = self.control.several.search(behind)
        if match is None:
            raise _refused(
                "it writes no control token behind an answer, so where to stop could not be learned", f"{behind!r:.60}"
            )
        return behind[: match.end()]

    def _dropped(self, text: str, marked: Conversation) -> UserError | RowError:
        """Why a template does not write every turn once: that of tools may need a call, any other is the template's fault."""
        roles = sorted({one.role for one in marked.messages if text.count(one.content) != 1})
        if roles == [TOOL]:
            return RowError(
                "the template does not write a tool's turn without the call it answers: it cannot be proven"
            )
        what = (
            f"it does not write each turn of the roles {', '.join(roles)} once"
            if roles
            else "it changes the order of turns"
        )
        return _refused(what, "")

    def _check_survival(self, text: str, conversation: Conversation) -> None:
        """Every turn's text stands in the rendering, in order. RowError that names the one that does not."""
        at = 0
        for number, one in enumerate(conversation.messages, start=1):
            for content in self._contents(one):
                wanted = content.rpartition("</think>")[2].strip() if one.role == ASSISTANT else content.strip()
                found = max(text.find(wanted, at), text.find(json.dumps(wanted, ensure_ascii=False)[1:-1], at))
                if found < 0:
                    raise RowError(f"the template leaves out turn {number} ({one.role}) or a part of it")
                at = found + len(wanted) if wanted else at
        last = conversation.messages[-1].reasoning
        if last and last.strip() not in text:
            raise RowError("the template leaves out the reasoning of the last turn")

    def _check_tools(self, conversation: Conversation) -> None:
        """RowError for calls, or descriptions of tools, that the template has no place for."""
        if any(one.tool_calls for one in conversation.messages) and not self._writes("calls"):
            raise RowError("the template leaves out calls of tools")
        if conversation.tools and not self._writes("tools"):
            raise RowError("the template leaves out the descriptions of tools")

    def _writes(self, what: str) -> bool:
        """Does a rendering hold the name and an argument of a call, or the name of a tool?"""
        if what not in self._written:
            marks = [chr(_FIRST_MARK + number) for number in range(2)]
            call = Message(ASSISTANT, "", tool_calls=(ToolCall(marks[0], {"a": marks[1]}, "123456789"),))
            tool = {"type": "function", "function": {"name": marks[0], "description": marks[1], "parameters": {}}}
            asks = Message("user", "a")
            probe = (
                Conversation((asks, call)) if what == "calls" else Conversation((Message("system", "s"), asks), (tool,))
            )
            try:
                text = self.template.render(probe)
            except RowError:
                text = "".join(marks)  # it says itself what it cannot take
            self._written[what] = all(mark in text for mark in marks)
        return self._written[what]


def _as_rendered(content: str) -> Sequence[str]:
    """How templates write a content: as it is, or without white space around it."""
    return dict.fromkeys((content, content.strip(), content.lstrip("\n"), content.lstrip(), content.rstrip())).keys()  # type: ignore[return-value]


def _refused(reason: str, found: str) -> UserError:
    return UserError(
        f"what is learned cannot be proven for this template: {reason}", where="task.template", found=found or None,
        mend="Mark the answers with {% generation %} … {% endgeneration %}, or choose a shipped template: chatml, plain, …",
    )  # fmt: skip
