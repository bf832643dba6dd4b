"""Conversations -> rows of token ids whose answers are learned, or the reason why not: rendered, tokenized as a whole, cut to length.

    [user "Hi", assistant "Hello!"]      ids [1 872 198 6023 2 198 1 78191 198 9707 0 2 198]      learned [(9, 12)]

A row that is too long loses whole turns of its prompt, the oldest first; where its last question alone is too long, tokens at the start
of that question. The system turn and the template's own text are kept whole. A row whose learned answers would be cut is rejected, since
it would teach the model not to stop.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.chat.messages import ASSISTANT, DEVELOPER, SYSTEM, USER, Conversation, Message
from tunewright.chat.supervision import REFUSE, Rendered, Span, Supervisor
from tunewright.chat.templates import Template, special_tokens
from tunewright.chat.transcripts import Marks, answer_spans, literal_end, without_literal_ends
from tunewright.encoding.rendered import ChatTokenizer, ChatTokens, end_token
from tunewright.errors import RowError, UserError
from tunewright.tokenization.encoder import TextEncoder

ANSWERS, LAST_ANSWER, EVERYTHING = "answers", "last_answer", "everything"


@dataclass(frozen=True)
class ChatRow:
    """ids: int32 `(length,)`. learned: runs of tokens, `[begin, end)`. num_cut: tokens cut off the prompt.

    answer: the last answer, learned or not; `(0, 0)` where there is none. notes: see `Rendered`.
    """

    ids: np.ndarray
    learned: tuple[Span, ...]
    num_cut: int = 0
    answer: Span = (0, 0)
    notes: tuple[str, ...] = ()

    @property
    def num_supervised(self) -> int:
        """Tokens that are predicted; a row's first token never is."""
        return sum(end - max(1, begin) for begin, end in self.learned)


@dataclass(frozen=True)
class DialogueEncoder:
    """supervisor: renders and finds the answers; None where texts are used as they are. trusted: control tokens in them are control.

    reasoning: what to do with reasoning that the template leaves out. strips_ends: remove end tokens written in answers.
    marks: markers around the answers of texts used as they are; without them those are learned whole.
    """

    tokenizer: ChatTokenizer
    supervisor: Supervisor | None
    max_length: int
    supervise: str
    trusted: bool = False
    cuts_prompts: bool = True
    reasoning: str = REFUSE
    strips_ends: bool = False
    marks: Marks | None = None

    @classmethod
    def of(
        cls, encoder: TextEncoder, source: str | None, kwargs: dict[str, Any], *, supervise: str, trusted: bool,
        cuts_prompts: bool, reasoning: str = REFUSE, strips_ends: bool = False, marks: Marks | None = None,
    ) -> DialogueEncoder:  # fmt: skip
        """source: the template's Jinja, None for plain texts."""
        rest = (encoder.max_length, supervise, trusted, cuts_prompts, reasoning, strips_ends, marks)
        if source is None:
            return cls(ChatTokenizer.of(encoder), None, *rest)
        template = Template(source, special_tokens(encoder.tokenizer), kwargs)
        tokenizer = ChatTokenizer.of(encoder, template.own_text())
        return cls(tokenizer, Supervisor(template, tokenizer.finder), *rest)

    def for_training(self, conversations: Sequence[Conversation]) -> list[ChatRow | str]:
        """A row for each, or the reason why there is none. UserError for a template that cannot be used for training."""
        if self.strips_ends:
            conversations = [_without_ends(one) for one in conversations]
        rendered: list[Rendered | str] = [self._tried(one) for one in conversations]
        good = [one for one in rendered if not isinstance(one, str)]
        tokens = iter(self.tokenizer.encode(good))
        return [
            one if isinstance(one, str) else self._row(one, next(tokens), conversation)
            for one, conversation in zip(rendered, conversations, strict=True)
        ]

    def for_generation(self, conversations: Sequence[Conversation], *, room: int) -> list[ChatRow]:
        """The prompts for answers of at most `room` tokens. RowError where the template rejects one."""
        length = max(1, self.max_length - room)
        tokens = self.tokenizer.encode([self._asked(one) for one in conversations])
        return [self._fitting(found, one.ids, length) for found, one in zip(conversations, tokens, strict=True)]

    def _fitting(self, conversation: Conversation, ids: np.ndarray, length: int) -> ChatRow:
        """A prompt in at most `length` tokens."""
        if len(ids) > length and self.supervisor is not None:
            shorter = self.shortened([conversation], [len(ids)], length, asked=True)
            if shorter is not None:
                return shorter[0]
        return self._cut_to(ids, length)

    def _tried(self, conversation: Conversation) -> Rendered | str:
        try:
            if self.supervisor is None:
                return self._answers_in(self._text(conversation.messages[0].content, ends=True))
            return self._learned_of(self._bare(conversation))
        except RowError as error:
            return error.reason

    def _learned_of(self, conversation: Conversation) -> Rendered:
        assert self.supervisor is not None
        return self.supervisor.for_training(conversation, turns=self._turns(conversation), reasoning=self.reasoning)

    def _turns(self, conversation: Conversation) -> list[bool]:
        """Which of the answers are learned."""
        turns = [one.learned for one in conversation.messages if one.role == ASSISTANT]
        if self.supervise == EVERYTHING:
            return [True] * len(turns)
        return [one and (self.supervise == ANSWERS or number == len(turns) - 1) for number, one in enumerate(turns)]

    def _asked(self, conversation: Conversation) -> Rendered:
        if self.supervisor is None:
            return self._text(conversation.messages[-1].content, ends=False)
        return self.supervisor.for_generation(self._bare(conversation))

    def _text(self, text: str, *, ends: bool) -> Rendered:
        """A text as it is, between one BOS token (where the tokenizer adds one) and one end token."""
        reference, control = self.tokenizer.tokenizer, self.tokenizer.finder.tokens
        found = list(control.finditer(text))
        bos = reference.bos_token if self.tokenizer.adds_bos else ""
        if self.trusted:
            begun = bool(bos) and text.startswith(bos)
            ended = bool(found) and not text[found[-1].end() :].strip()
            before, after = "" if begun else bos, "" if ended or not ends else end_token(reference)
            return Rendered(before + text + after, ((0, len(before + text + after)),))
        whole = bos + text + (end_token(reference) if ends else "")
        return Rendered(whole, ((0, len(whole)),), ((len(bos), len(bos) + len(text)),))

    def _answers_in(self, whole: Rendered) -> Rendered:
        """A text of which only the answers are learned; the end token belongs to an answer that reaches the end of the text."""
        if self.marks is None:
            return whole
        text = whole.text
        ending = end_token(self.tokenizer.tokenizer)
        said = text.removesuffix(ending) if self.marks.end != ending else text
        spans = list(answer_spans(said, self.marks))
        if spans[-1][1] == len(said):
            spans[-1] = (spans[-1][0], len(text))
        return replace(whole, answers=tuple(spans))

    def _bare(self, conversation: Conversation) -> Conversation:
        """The conversation without the template's own text around a single question, so that it is not rendered twice."""
        assert self.supervisor is not None
        users = [number for number, one in enumerate(conversation.messages) if one.role == USER]
        if len(users) != 1:
            return conversation
        asked = conversation.messages[users[0]]
        before, behind = self.supervisor.prompt_pieces()
        bare = unwrapped(asked.content, before, behind)
        if bare is None:  # rendered for an answer that begins with reasoning
            bare = unwrapped(asked.content, before, _NO_REASONING.sub("", behind))
        if bare is None:
            return conversation
        messages = [self._without_end(one) if one.role == ASSISTANT else one for one in conversation.messages]
        messages[users[0]] = replace(asked, content=bare)
        return replace(conversation, messages=tuple(messages))

    def _without_end(self, answer: Message) -> Message:
        """The answer to such a question without a control token at its end: the template writes its own."""
        found = list(self.tokenizer.finder.tokens.finditer(answer.content))
        ends = bool(found) and not answer.content[found[-1].end() :].strip()
        return replace(answer, content=answer.content[: found[-1].start()].rstrip()) if ends else answer

    def _row(self, rendered: Rendered, tokens: ChatTokens, conversation: Conversation) -> ChatRow | str:
        row = self._whole(rendered, tokens, conversation)
        if isinstance(row, str) or len(row.ids) <= self.max_length:
            return row
        shorter = self.shortened([conversation], [len(row.ids)], self.max_length) if self.cuts_prompts else None
        if shorter is not None:
            return shorter[0]
        if (
            self.marks is not None
            and self.cuts_prompts
            and (cut := self._first_question_cut(rendered, tokens, row)) is not None
        ):
            return cut
        first = row.learned[0][0]
        return (
            f"too long: {len(row.ids):,} tokens, data.max_length is {self.max_length:,}, and its answer would be cut "
            f"(the prompt has {first:,})"
        )

    def _whole(self, rendered: Rendered, tokens: ChatTokens, conversation: Conversation) -> ChatRow | str:
        """The row, however long."""
        answers = [_run(tokens.within([span])) for span in rendered.answers]
        self._require_ends(rendered, tokens, answers)
        learned = self._chosen(answers, conversation, len(tokens.ids))
        if not any(end > max(1, begin) for begin, end in learned):
            return "nothing to learn: no answer is supervised"
        answer = (0, 0) if self.supervisor is None and self.marks is None else answers[-1]
        return ChatRow(tokens.ids, learned, 0, answer, (*rendered.notes, *self._literal_ends(conversation)))

    def _require_ends(self, rendered: Rendered, tokens: ChatTokens, answers: Sequence[Span]) -> None:
        """UserError where the control token that ends an answer was tokenized as text: the model would not learn where to stop.

        Some tokenizers look for `▁</s>`, which no answer ends with.
        """
        for (begin, end), (_, stop) in zip(rendered.answers, answers, strict=True):
            if stop == 0 or int(tokens.ids[stop - 1]) in self.tokenizer.control_ids:
                continue
            found = [
                one for one in self.tokenizer.finder.tokens.finditer(rendered.text, begin, end) if one.end() == end
            ]
            if found and not any(first < end and found[-1].start() < last for first, last in rendered.untrusted):
                raise UserError(
                    "this tokenizer does not find its own end token after an answer, so the model could not learn where to stop",
                    where="model.tokenizer",
                    found=f"{rendered.text[max(begin, end - 40) : end]!r}, whose {found[-1][0]!r} is split like any other text",
                    hint=f'Set "normalized": false for {found[-1][0]!r} in its tokenizer.json, or choose another tokenizer.',
                )

    def _literal_ends(self, conversation: Conversation) -> list[str]:
        """The end tokens written at the end of learned answers; they would be learned as text."""
        if self.supervisor is None and self.trusted:
            return []
        answers = [one for one in conversation.messages if one.role == ASSISTANT]
        turns = self._turns(conversation) if self.supervisor is not None else [True] * len(answers)
        found = (literal_end(one.content) for one, yes in zip(answers, turns, strict=True) if yes)
        return sorted({ENDS_WITH + token for token in found if token is not None})

    def _chosen(self, answers: list[Span], conversation: Conversation, length: int) -> tuple[Span, ...]:
        if self.supervisor is None and self.marks is not None:
            return tuple(answers[-1:] if self.supervise == LAST_ANSWER else answers)
        if self.supervise == EVERYTHING or self.supervisor is None:
            return ((0, length),)
        return tuple(span for span, yes in zip(answers, self._turns(conversation), strict=True) if yes)

    # Too long

    def shortened(
        self, sides: Sequence[Conversation], lengths: Sequence[int], max_length: int, *, asked: bool = False
    ) -> list[ChatRow] | None:
        """Conversations to one prompt, shortened alike until each has at most `max_length` tokens; None where that would cut learned answers.

        The oldest turns are removed first, up to the last question before the learned answers, which is then cut at its start.
        lengths: tokens of the whole conversations.
        """
        if self.supervisor is None:
            return None
        sides = [self._bare(one) for one in sides]
        head, questions = self._removable(sides, asked=asked)
        if not questions:
            return None
        tried: dict[int, list[tuple[Conversation, ChatRow]] | None] = {}

        def fits(begin: int) -> bool:
            tried[begin] = self._without_turns(sides, head, begin, asked=asked)
            found = tried[begin]
            return found is not None and all(len(row.ids) <= max_length for _, row in found)

        number = bisect.bisect_left(questions, True, key=fits)
        begin = questions[min(number, len(questions) - 1)]
        if begin not in tried:
            fits(begin)
        found = tried[begin]
        if found is None:
            return None
        rows = [row for _, row in found]
        over = max(0, *(len(row.ids) - max_length for row in rows))
        if over:
            cut = [self._question_cut(one, len(one.messages) - len(side.messages) + begin, row, over, asked=asked)
                   for (one, row), side in zip(found, sides, strict=True)]  # fmt: skip
            if any(one is None for one in cut):
                return None
            rows = [one for one in cut if one is not None]
        return [replace(row, num_cut=length - len(row.ids)) for row, length in zip(rows, lengths, strict=True)]

    def _removable(self, sides: Sequence[Conversation], *, asked: bool) -> tuple[int, list[int]]:
        """(number of system turns in front, positions of the questions that a shortened conversation may begin with)."""
        turns = sides[0].messages
        head = next((number for number, one in enumerate(turns) if one.role not in (SYSTEM, DEVELOPER)), len(turns))
        stop = len(turns)
        if not asked:
            for one in sides:
                answers = [number for number, turn in enumerate(one.messages) if turn.role == ASSISTANT]
                kept = (
                    answers
                    if self.supervise == EVERYTHING
                    else [n for n, yes in zip(answers, self._turns(one), strict=True) if yes]
                )
                stop = min(stop, *kept)
        return head, [number for number in range(head, stop) if turns[number].role == USER]

    def _without_turns(
        self, sides: Sequence[Conversation], head: int, begin: int, *, asked: bool
    ) -> list[tuple[Conversation, ChatRow]] | None:
        """The conversations without their turns from `head` to `begin`, encoded; None where the template rejects them."""
        kept = [replace(one, messages=(*one.messages[:head], *one.messages[begin:])) for one in sides]
        rows: list[tuple[Conversation, ChatRow]] = []
        for one in kept:
            try:
                rendered = self._asked(one) if asked else self._learned_of(one)
            except RowError:
                return None
            tokens = self.tokenizer.encode([rendered])[0]
            row = ChatRow(tokens.ids, ()) if asked else self._whole(rendered, tokens, one)
            if isinstance(row, str):
                return None
            rows.append((one, row))
        return rows

    def _first_question_cut(self, rendered: Rendered, tokens: ChatTokens, row: ChatRow) -> ChatRow | None:
        """The row of a text whose first question is cut at its start, after its heading; None where that is not enough."""
        assert self.marks is not None
        asked = self.marks.asked.search(rendered.text)
        answered = self.marks.answered.search(rendered.text)
        if asked is None or answered is None or asked.end() >= answered.start():
            return None
        over = len(row.ids) - self.max_length
        cut = _without_tokens(row, tokens, (asked.end(), answered.start()), over)
        return None if cut is None else replace(cut, num_cut=over)

    def _question_cut(
        self, conversation: Conversation, number: int, row: ChatRow, over: int, *, asked: bool
    ) -> ChatRow | None:
        """The row without the first `over` tokens of a question's content; None where nothing of it would be left."""
        assert self.supervisor is not None
        span = self.supervisor.content_span(conversation, number, prompt=asked)
        if span is None:
            return None
        rendered = self._asked(conversation) if asked else self._learned_of(conversation)
        tokens = self.tokenizer.encode([rendered])[0]
        return _without_tokens(row, tokens, span, over)

    def _cut_to(self, ids: np.ndarray, length: int) -> ChatRow:
        """A prompt of at most `length` tokens, cut at its start; a BOS (or CLS) token there is kept."""
        over = len(ids) - length
        if over <= 0:
            return ChatRow(ids, ())
        tokenizer = self.tokenizer.tokenizer
        head = int(int(ids[0]) in {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None})
        return ChatRow(np.concatenate([ids[:head], ids[head + over :]]), (), over)


def _without_tokens(row: ChatRow, tokens: ChatTokens, span: Span, over: int) -> ChatRow | None:
    """The row without the first `over` tokens of a span of its text, which is before all answers; None where nothing of it would be left."""
    inside = np.flatnonzero((tokens.starts >= span[0]) & (tokens.ends <= span[1]) & (tokens.ends > tokens.starts))
    if len(inside) <= over:
        return None
    first = int(inside[0])
    learned = tuple((begin - over * (begin > first), end - over) for begin, end in row.learned)
    answer = (row.answer[0] - over, row.answer[1] - over) if row.answer != (0, 0) else row.answer
    return replace(row, ids=np.delete(row.ids, np.arange(first, first + over)), learned=learned, answer=answer)


ENDS_WITH = "ends with "
"""Begins the note of rows whose answers end with the text of an end token."""


def _without_ends(found: Conversation) -> Conversation:
    """The conversation without end tokens at the end of its answers."""
    messages = [
        replace(one, content=without_literal_ends(one.content)) if one.role == ASSISTANT else one
        for one in found.messages
    ]
    return replace(found, messages=tuple(messages))


_NO_REASONING = re.compile(r"<think>\s*</think>\s*\Z")


def unwrapped(text: str, before: str, behind: str) -> str | None:
    """The question in a text that has a template's own text around it; None where it has not."""
    start, stop = before.strip(), behind.strip()
    stripped = text.strip()
    if not (start or stop) or not (stripped.startswith(start) and stripped.endswith(stop)):
        return None
    if len(stripped) < len(start) + len(stop):
        return None
    inner = stripped[len(start) : len(stripped) - len(stop)]
    white_before, white_behind = before[len(before.rstrip()) :], behind[: len(behind) - len(behind.lstrip())]
    return inner.removeprefix(white_before).removesuffix(white_behind)


def _run(inside: np.ndarray) -> Span:
    """The run of True. An answer's tokens are consecutive."""
    found = np.flatnonzero(inside)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
