"""Conversation -> its rendering, and which characters of it the assistant writes: proven, never found by searching.

    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>\\n
                                                        [         span          ]

Where a template marks the answers itself (`{% generation %}`), those are the spans. Elsewhere the proof is by substitution: the
conversation is rendered again with marks in place of contents. The text between two marks is the template's own, and the same for all
conversations of that shape; a row is proven when its rendering is exactly these pieces with its own contents between them. Turns
with more than a content (calls, reasoning) are proven one by one: everything before and after the turn must be rendered the same
when a mark replaces the turn. Nothing is assumed about prefixes: templates may rewrite earlier turns.

An answer begins where the template's prompt for it ends; a reasoning block that the prompt opens belongs to the answer.
It ends with the first control token after it, its end-of-turn token. Where a template ends the last answer differently from earlier ones,
each ends with its own token; where it writes nothing after the last one and the next role's token after earlier ones, that token is
appended: without it the model could not learn where to stop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from tunewright.chat.control_tokens import ASSISTANTS_OWN, ControlTokens, EscapedConversation
from tunewright.chat.messages import ASSISTANT, TOOL, USER, Conversation, Message, ToolCall, in_usual_order
from tunewright.chat.reasoning import BEGINS, ENDS
from tunewright.chat.templates import GENERATION_BEGINS, GENERATION_ENDS, Template
from tunewright.errors import RowError, UserError

Span = tuple[int, int]
_FIRST_MARK = 0x10F000
_MARKS = re.compile("[\U0010f000-\U0010ffef]")
_GENERATION = re.compile(f"[{GENERATION_BEGINS}{GENERATION_ENDS}]")
_REASONING_OPENED = re.compile(r"<think>\s*(</think>\s*)?\Z")
_OPENED_BLOCK = re.compile(r"\s*(?:<think>\s*(?:</think>\s*)?)?")
_EMPTY_BLOCK = re.compile(r"\s*(?:(?:<think>\s*)?</think>\s*)?")
_MOST_SHAPES = 2_048
KEEP, DROP, REFUSE = "keep", "drop", "refuse"
"""What to do with reasoning that a template leaves out."""
DROPPED, MERGED = "reasoning", "merged"
"""Notes of a rendering: reasoning was left out, turns were merged."""


@dataclass(frozen=True)
class Rendered:
    """text: what is tokenized. answers: the span of each of the assistant's turns. untrusted: control tokens that are text.

    notes: what a user should know about it, `DROPPED` and `MERGED`.
    """

    text: str
    answers: tuple[Span, ...] = ()
    untrusted: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """What a template writes around the contents of every conversation with these roles.

    pieces: texts before, between and behind the contents. begins: where in the piece before an answer the answer begins.
    ends: how much of the piece behind an answer still belongs to it. merged: turns of one role stand in it with nothing between them.
    """

    pieces: tuple[str, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    merged: bool = False


@dataclass(frozen=True)
class Endings:
    """How a template ends answers. stops: the tokens that end one, that of the last answer first. appended: behind the last answer."""

    stops: tuple[str, ...]
    appended: str = ""


@dataclass(frozen=True)
class Supervisor:
    """Renders with one template and finds the answers. UserError for a template that cannot be proven, RowError for a row."""

    template: Template
    control: ControlTokens
    _shapes: dict[object, Shape] = field(default_factory=dict, repr=False, compare=False)
    _written: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def for_training(
        self, conversation: Conversation, *, turns: Sequence[bool] = (), reasoning: str = REFUSE
    ) -> Rendered:
        """A conversation for training: every turn rendered, every answer found.

        turns: which answers are learned, all where it is empty. reasoning: what to do with reasoning that the template leaves out.
        """
        self._check_tools(conversation)
        escaped = EscapedConversation.of(conversation, self.control)
        text = self.template.render(escaped.conversation)
        notes: tuple[str, ...] = ()
        if GENERATION_BEGINS in text:
            answers = self._marked(text, escaped.conversation)
            text = _GENERATION.sub("", text)
        else:
            text = self._ended(text, escaped.conversation)
            answers = self._proven(text, escaped.conversation)
            notes = (MERGED,) if self._shape(escaped.conversation).merged else ()
        lost = self._lost_reasoning(text, escaped.conversation, answers, turns)
        if lost and reasoning == REFUSE:
            raise RowError(f"the template leaves out the reasoning of turn {min(lost) + 1}: {_REASONING_KEY}")
        if lost and reasoning == KEEP:
            text, answers = _with_reasoning(text, answers, lost)
        notes = (*notes, DROPPED) if lost and reasoning == DROP else notes
        text, places, untrusted = escaped.restored(text, [place for span in answers for place in span], self.control)
        return Rendered(text, tuple(zip(places[::2], places[1::2], strict=True)), tuple(untrusted), notes)

    def for_generation(self, conversation: Conversation) -> Rendered:
        """A conversation for generation: followed by the beginning of the answer."""
        escaped = EscapedConversation.of(conversation, self.control)
        text = _GENERATION.sub("", self.template.render(escaped.conversation, prompt=True))
        text, _, untrusted = escaped.restored(text, [], self.control)
        return Rendered(text, (), tuple(untrusted))

    def content_span(self, conversation: Conversation, number: int, *, prompt: bool) -> Span | None:
        """The span of a turn's content (its input, where it has one) in the rendering; None where it cannot be proven."""
        one, mark = conversation.messages[number], chr(_FIRST_MARK)
        escaped = EscapedConversation.of(conversation, self.control)
        turn = escaped.conversation.messages[number]
        with_input = bool(one.input) and self.template.knows_inputs
        marked = replace(turn, input=mark) if with_input else replace(turn, content=mark, input=None)
        turns = escaped.conversation.messages
        other = replace(escaped.conversation, messages=(*turns[:number], marked, *turns[number + 1 :]))
        text, around = self._text(escaped.conversation, prompt), self._text(other, prompt)
        before, found, behind = around.partition(mark)
        if not found or not (text.startswith(before) and text.endswith(behind)) or len(text) < len(before + behind):
            return None
        _, places, _ = escaped.restored(text, [len(before), len(text) - len(behind)], self.control)
        return places[0], places[1]

    def prompt_pieces(self) -> tuple[str, str]:
        """The text that the template writes before and after the content of a single question."""
        mark = chr(_FIRST_MARK)
        text = self.template.render(Conversation((Message("user", mark),)), prompt=True)
        before, _, behind = _GENERATION.sub("", text).partition(mark)
        return before, behind

    def _text(self, conversation: Conversation, prompt: bool = False) -> str:
        """The rendering without marks of answers, ended as `_ended` says."""
        text = _GENERATION.sub("", self.template.render(conversation, prompt=prompt))
        return text if prompt else self._ended(text, conversation)

    def _ended(self, text: str, conversation: Conversation) -> str:
        return text + self.endings.appended if conversation.messages[-1].role == ASSISTANT else text

    # How answers end

    @cached_property
    def endings(self) -> Endings:
        """UserError where the template writes no control token after an answer; RowError where it accepts no conversation at all."""
        mark = chr(_FIRST_MARK)
        asks, answer = self._asking(), Message(ASSISTANT, mark)
        last = _GENERATION.sub("", self.template.render(Conversation((*asks, answer)))).rpartition(mark)[2]
        earlier = self._behind(mark, (*asks, answer, Message(USER, "b")))
        appended = ""
        if not self.control.tokens.search(last):
            match = self._next_token(earlier)
            if match is None:
                raise _refused(_NO_END, f"{last!r:.60}")
            appended = match[0].removeprefix(last) if match[0].startswith(last) else match[0].lstrip()
        first = self.control.tokens.findall(self._closing(last + appended))[-1]
        others = []
        for behind in (
            earlier,
            self._behind(mark, (*asks, answer, Message(TOOL, "b"), answer)),
            self._behind_call(asks),
        ):
            match = self._next_token(behind)
            if match is not None and not behind.startswith(self._closing(last + appended)):
                others.append(match[0].strip())
        inside = self._within_answers(asks)
        return Endings(tuple(dict.fromkeys([first, *(one for one in others if one not in inside)])), appended)

    def _asking(self) -> tuple[Message, ...]:
        """A question, after a system turn where the template requires one."""
        asks = Message(USER, "a")
        try:
            self.template.render(Conversation((asks, Message(ASSISTANT, "b"))))
        except RowError:
            return (Message("system", "s"), asks)
        return (asks,)

    def _behind(self, mark: str, messages: tuple[Message, ...]) -> str:
        """The text after the first mark; empty where the template refuses those turns."""
        try:
            return _GENERATION.sub("", self.template.render(Conversation(messages))).partition(mark)[2]
        except RowError:
            return ""

    def _behind_call(self, asks: tuple[Message, ...]) -> str:
        """The token that ends an answer that is a tool call."""
        call = Message(ASSISTANT, "", tool_calls=(ToolCall("a", {"b": "c"}, "123456789"),))
        try:
            text = _GENERATION.sub("", self.template.render(Conversation((*asks, call)))).rstrip()
        except RowError:
            return ""
        found = [one for one in self.control.tokens.finditer(text) if one.end() == len(text)]
        return found[-1][0] if found and found[-1][0] not in ASSISTANTS_OWN else ""

    def _within_answers(self, asks: tuple[Message, ...]) -> set[str]:
        """Control tokens that the template writes between the reasoning and the answer proper: they end no answer."""
        marks = chr(_FIRST_MARK), chr(_FIRST_MARK + 1)
        try:
            text = self.template.render(Conversation((*asks, Message(ASSISTANT, marks[0], reasoning=marks[1]))))
        except RowError:
            return set()
        between = text.partition(marks[1])[2].partition(marks[0])
        return set(self.control.tokens.findall(between[0])) if between[1] else set()

    def _next_token(self, behind: str) -> re.Match[str] | None:
        """The control token at the beginning, after white space."""
        return re.compile(rf"\s*(?:{self.control.tokens.pattern})").match(behind)

    # Reasoning

    def _lost_reasoning(
        self, text: str, conversation: Conversation, answers: Sequence[Span], turns: Sequence[bool]
    ) -> dict[int, tuple[int, str, str]]:
        """Turn -> (number of the answer, its reasoning, the answer proper) for learned answers whose reasoning is not in their spans."""
        lost = {}
        numbers = [number for number, one in enumerate(conversation.messages) if one.role == ASSISTANT]
        for answer, (number, (begin, end)) in enumerate(zip(numbers, answers, strict=True)):
            one = conversation.messages[number]
            within, proper = _reasoning_in(one.content)
            wanted = (one.reasoning or "").strip() or within
            is_learned = turns[answer] if turns else one.learned
            if wanted and is_learned and wanted not in text[begin:end]:
                lost[number] = (answer, wanted, proper.strip())
        return lost

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
            raise RowError(f"the template marks {len(spans)} of {conversation.num_answers} answers")
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
        """The answers' spans where the rendering is exactly the shape with the contents (stripped or not), else None."""
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
        """The span of one turn: what changes when a mark replaces it."""
        messages, mark = conversation.messages, chr(_FIRST_MARK)
        marked = replace(conversation, messages=(*messages[:number], Message(ASSISTANT, mark), *messages[number + 1 :]))
        try:
            before, found, behind = self._text(marked).partition(mark)
        except RowError:  # templates that require a call before a tool turn
            return self._by_prefix(text, conversation, number)
        answer = sum(one.role == ASSISTANT for one in messages[:number])
        piece = sum(len(self._contents(one)) for one in messages[:number])
        begin, end = shape.begins[answer], shape.ends[answer]
        if (
            not found
            or not before.endswith(shape.pieces[piece])
            or not behind.startswith(shape.pieces[piece + 1][:end])
        ):
            raise RowError(f"the text of turn {number + 1} cannot be told apart from the template's own")
        start = len(before) - len(shape.pieces[piece]) + begin
        stop = len(text) - len(behind) + end
        if not text.endswith(behind):  # a call may end with a token of its own
            stop = len(text) - len(behind[end:])
            own = [one for one in self.control.tokens.finditer(text, start) if one.end() == stop]
            if not own or own[0][0] not in self.endings.stops or not text.endswith(behind[end:]):
                return self._by_prefix(text, conversation, number)
            end = len(own[0][0])
        if not text.startswith(before[:start]) or start > stop - end:
            return self._by_prefix(text, conversation, number)
        return start, stop

    def _by_prefix(self, text: str, conversation: Conversation, number: int) -> Span:
        """The span of one turn: from where its prompt ends to where the conversation up to it does, if the rendering begins with both."""
        turns = conversation.messages
        try:
            prompt = self._text(replace(conversation, messages=turns[:number]), prompt=True)
            whole = self._text(replace(conversation, messages=turns[: number + 1]))
        except RowError:
            prompt = whole = ""
        prompt = _REASONING_OPENED.sub("", prompt)
        found = [one.end() for one in self.control.tokens.finditer(whole, len(prompt)) if one[0] in self.endings.stops]
        if not prompt or not found or whole[found[-1] :].strip() or not text.startswith(whole[: found[-1]]):
            raise RowError(f"turn {number + 1} cannot be told apart from the others as the template writes it")
        if not whole.startswith(prompt):
            raise RowError(f"the template's generation prompt differs from how it writes turn {number + 1}")
        return len(prompt), found[-1]

    def _contents(self, message: Message) -> list[str]:
        if message.input and self.template.knows_inputs:
            return [message.content, message.input]
        return [self.template._values(message)["content"] or ""]

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
        text = self._text(marked)
        num_contents = sum(len(self._contents(one)) for one in conversation.messages)
        if _MARKS.findall(text) != [chr(_FIRST_MARK + number) for number in range(num_contents)]:
            raise self._dropped(text, marked)
        pieces = _MARKS.split(text)
        begins, ends, piece, merged = [], [], 0, False
        for number, one in enumerate(marked.messages):
            following = piece + len(self._contents(one))
            if one.role == ASSISTANT:
                begins.append(self._begin(pieces[piece], marked, number))
                ends.append(self._end(pieces[following], pieces[-1], marked, number))
            elif number and marked.messages[number - 1].role == one.role and one.role != TOOL:
                merged |= not pieces[piece].strip()
            piece = following
        return Shape(tuple(pieces), tuple(begins), tuple(ends), merged)

    def _end(self, behind: str, last: str, marked: Conversation, number: int) -> int:
        """How much of the piece after an answer belongs to it: its end token, where generation stops there."""
        closing = self._closing(last) if marked.messages[-1].role == ASSISTANT else self.endings.stops[0]
        if behind.startswith(closing):
            return len(closing)
        match = self._next_token(behind)
        if match is not None:
            return match.end() if match[0].strip() in self.endings.stops else 0
        if in_usual_order(marked.messages):
            raise _refused("it ends answers in different ways", f"{behind!r:.60}, {last!r:.60}")
        raise RowError(f"the template merges turn {number + 1} ({ASSISTANT}) with the next turn")

    def _with_marks(self, conversation: Conversation) -> Conversation:
        """The conversation with only a mark as the content of each turn, in order."""
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

    def _begin(self, piece: str, marked: Conversation, number: int) -> int:
        """Where the prompt ends in the piece before an answer, not counting a reasoning block that the prompt opens."""
        prompt = None
        if number:
            try:
                prompt = _MARKS.split(self._text(replace(marked, messages=marked.messages[:number]), prompt=True))[-1]
            except RowError:
                prompt = None
        if prompt is not None and piece.startswith(opened := _REASONING_OPENED.sub("", prompt)):
            return len(opened)
        header = self._header
        at = piece.rfind(header) + len(header)
        if header and header in piece and _OPENED_BLOCK.fullmatch(piece[at:]):
            return at
        if in_usual_order(marked.messages):
            raise _refused(
                "its generation prompt differs from what it writes before answers", f"{prompt!r:.60}, {piece!r:.60}"
            )
        raise RowError(f"the template does not mark turn {number + 1} as the {ASSISTANT}'s")

    @cached_property
    def _header(self) -> str:
        """The text with which the template begins every answer."""
        asks = Conversation(self._asking())
        try:
            without, prompt = self._text(asks), self._text(asks, prompt=True)
        except RowError:
            return ""
        return _REASONING_OPENED.sub("", prompt.removeprefix(without)).lstrip() if prompt.startswith(without) else ""

    def _closing(self, behind: str) -> str:
        """The text after a content up to and including its end token (several where they touch). UserError where there is none."""
        match = self.control.several.search(behind)
        if match is None:
            raise _refused(_NO_END, f"{behind!r:.60}")
        return behind[: match.end()]

    def _dropped(self, text: str, marked: Conversation) -> UserError | RowError:
        """The error for turns that are not written exactly once: the row's where roles are in an unusual order, else the template's."""
        dropped = [number for number, one in enumerate(marked.messages) if text.count(one.content) != 1]
        roles = sorted({marked.messages[number].role for number in dropped})
        if roles == [TOOL]:
            return RowError("the template writes a tool's turn only after the call it answers")
        if not in_usual_order(marked.messages):
            which = (
                f"leaves out turn {dropped[0] + 1} ({marked.messages[dropped[0]].role})" if dropped else "moves turns"
            )
            return RowError(f"the template {which}")
        what = (
            f"it does not write each turn of the roles {', '.join(roles)} once"
            if roles
            else "it changes the order of turns"
        )
        return _refused(what, "")

    def _check_survival(self, text: str, conversation: Conversation) -> None:
        """RowError for a turn whose text is not in the rendering, in order."""
        at = 0
        for number, one in enumerate(conversation.messages, start=1):
            for content in self._contents(one):
                wanted = content.rpartition("</think>")[2].strip() if one.role == ASSISTANT else content.strip()
                found = max(text.find(wanted, at), text.find(json.dumps(wanted, ensure_ascii=False)[1:-1], at))
                if found < 0:
                    raise RowError(f"the template leaves out turn {number} ({one.role}) or a part of it")
                at = found + len(wanted) if wanted else at

    def _check_tools(self, conversation: Conversation) -> None:
        """RowError for tool calls or tool descriptions that the template does not write."""
        calling = [one for one in conversation.messages if one.tool_calls]
        if any(not self._writes("calls beside a text" if one.content.strip() else "calls") for one in calling):
            beside = " in answers that also have text" if self._writes("calls") else ""
            raise RowError(f"the template leaves out calls of tools{beside}")
        if conversation.tools and not self._writes("tools"):
            raise RowError("the template leaves out the descriptions of tools")

    def _writes(self, what: str) -> bool:
        """Does a rendering hold the name and an argument of a call, or the name of a tool?"""
        if what not in self._written:
            marks = [chr(_FIRST_MARK + number) for number in range(2)]
            said = "b" if what == "calls beside a text" else ""
            call = Message(ASSISTANT, said, tool_calls=(ToolCall(marks[0], {"a": marks[1]}, "123456789"),))
            tool = {"type": "function", "function": {"name": marks[0], "description": marks[1], "parameters": {}}}
            asks = Message("user", "a")
            probe = (
                Conversation((Message("system", "s"), asks), (tool,)) if what == "tools" else Conversation((asks, call))
            )
            try:
                text = self.template.render(probe)
            except RowError:
                text = "".join(marks)  # rendering the row will give the error
            self._written[what] = all(mark in text for mark in marks)
        return self._written[what]


def _reasoning_in(content: str) -> tuple[str, str]:
    """(the reasoning block at the beginning of an answer, the answer proper). Without a block everything is answer."""
    before, closed, proper = content.rpartition(ENDS)
    if not closed and content.lstrip().startswith(BEGINS):
        before, proper = content, ""
    return before.strip().removeprefix(BEGINS).strip(), proper


def _with_reasoning(
    text: str, answers: Sequence[Span], lost: Mapping[int, tuple[int, str, str]]
) -> tuple[str, list[Span]]:
    """The text and its answers, with the reasoning that the template left out inserted before the answers proper.

    RowError where the template writes text of its own there.
    """
    kept = list(answers)
    for number, (answer, reasoning, proper) in sorted(lost.items(), reverse=True):
        begin, end = kept[answer]
        if text[:begin].rstrip().endswith(ENDS):
            raise RowError(
                f"the reasoning of turn {number + 1} cannot be kept: the template ends the reasoning before the answer "
                "begins; some templates write it with thinking=true in task.template_kwargs"
            )
        block = _EMPTY_BLOCK.match(text, begin, end)
        at = block.end() if block else begin
        if not text.startswith(proper, at, end):
            raise RowError(
                f"the reasoning of turn {number + 1} cannot be kept: the template begins the answer with its own words"
            )
        written = f"{BEGINS}\n{reasoning}\n{ENDS}\n\n"
        moved = len(written) - (at - begin)
        text = text[:begin] + written + text[at:]
        kept = [(a + moved * (a > begin), b + moved * (b > begin)) for a, b in kept]
    return text, kept


def _as_rendered(content: str) -> Sequence[str]:
    """How templates write a content: as it is, or without white space around it."""
    return dict.fromkeys((content, content.strip(), content.lstrip("\n"), content.lstrip(), content.rstrip())).keys()  # type: ignore[return-value]


_NO_END = "it writes no control token after an answer, so the model could not learn where to stop"
_REASONING_KEY = "task.reasoning=keep writes it before the answer, task.reasoning=drop learns the answer without it"


def _refused(reason: str, found: str) -> UserError:
    return UserError(
        f"this template cannot be used for training: {reason}", where="task.template", found=found or None,
        hint="Mark the answers with {% generation %} … {% endgeneration %}, or choose a shipped template: chatml, plain, …",
    )  # fmt: skip
