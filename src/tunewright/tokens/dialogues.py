"""Conversations -> rows of token ids whose answers are learned, or why not: rendered, proven, tokenized whole, cut to length.

    [user "Hi", assistant "Hello!"]      ids [1 872 198 6023 2 198 1 78191 198 9707 0 2 198]      learned [(9, 12)]

A row that is too long loses tokens at the start of its prompt (its BOS token stays); one whose answer would be cut is set aside, for
it would teach a model not to stop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.errors import RowError
from tunewright.text.messages import ASSISTANT, USER, Conversation, Message
from tunewright.text.supervision import Rendered, Span, Supervisor
from tunewright.text.templates import Template, special_tokens
from tunewright.tokens.chat import ChatTokenizer, ChatTokens
from tunewright.tokens.tokenizer import TextEncoder

ANSWERS, LAST_ANSWER, EVERYTHING = "answers", "last_answer", "everything"


@dataclass(frozen=True)
class ChatRow:
    """ids: int32 `(length,)`. learned: runs of tokens, `[begin, end)`. num_cut: tokens cut off the prompt.

    answer: the last answer, learned or not; `(0, 0)` where there is none.
    """

    ids: np.ndarray
    learned: tuple[Span, ...]
    num_cut: int = 0
    answer: Span = (0, 0)

    @property
    def num_supervised(self) -> int:
        """Tokens that are predicted: a row's first one never is."""
        return sum(end - max(1, begin) for begin, end in self.learned)


@dataclass(frozen=True)
class DialogueEncoder:
    """supervisor: renders and proves; None where texts are taken as they stand. trusted: their control tokens are control."""

    tokenizer: ChatTokenizer
    supervisor: Supervisor | None
    max_length: int
    supervise: str
    trusted: bool = False
    cuts_prompts: bool = True

    @classmethod
    def of(
        cls, encoder: TextEncoder, source: str | None, kwargs: dict[str, Any], *, supervise: str, trusted: bool,
        cuts_prompts: bool,
    ) -> DialogueEncoder:  # fmt: skip
        """source: the template's Jinja, None for plain texts."""
        if source is None:
            return cls(ChatTokenizer.of(encoder), None, encoder.max_length, supervise, trusted, cuts_prompts)
        template = Template(source, special_tokens(encoder.tokenizer), kwargs)
        tokenizer = ChatTokenizer.of(encoder, template.own_text())
        supervisor = Supervisor(template, tokenizer.finder())
        return cls(tokenizer, supervisor, encoder.max_length, supervise, trusted, cuts_prompts)

    def learned(self, conversations: Sequence[Conversation]) -> list[ChatRow | str]:
        """A row for each, or the reason why there is none. UserError for a template that cannot be proven."""
        rendered: list[Rendered | str] = [self._tried(one) for one in conversations]
        good = [one for one in rendered if not isinstance(one, str)]
        tokens = iter(self.tokenizer.encode(good))
        return [
            one if isinstance(one, str) else self._row(one, next(tokens), conversation)
            for one, conversation in zip(rendered, conversations, strict=True)
        ]

    def asked(self, conversations: Sequence[Conversation], *, room: int) -> list[ChatRow]:
        """The prompts for answers of at most `room` tokens. RowError as the template says."""
        tokens = self.tokenizer.encode([self._asked(one) for one in conversations])
        return [self._cut_to(one.ids, (), max(1, self.max_length - room)) for one in tokens]

    def _tried(self, conversation: Conversation) -> Rendered | str:
        try:
            if self.supervisor is None:
                return self._text(conversation.messages[0].content, ends=True)
            return self.supervisor.learned(self._bare(conversation))
        except RowError as error:
            return error.reason

    def _asked(self, conversation: Conversation) -> Rendered:
        if self.supervisor is None:
            return self._text(conversation.messages[-1].content, ends=False)
        return self.supervisor.asked(self._bare(conversation))

    def _text(self, text: str, *, ends: bool) -> Rendered:
        """A text as it stands, between one BOS token (where the tokenizer has the habit) and one end token."""
        reference, control = self.tokenizer.tokenizer, self.tokenizer.finder().tokens
        found = list(control.finditer(text))
        bos = reference.bos_token if self.tokenizer.adds_bos else ""
        if self.trusted:
            begun = bool(bos) and text.startswith(bos)
            ended = bool(found) and not text[found[-1].end() :].strip()
            before, after = "" if begun else bos, "" if ended or not ends else reference.eos_token
            return Rendered(before + text + after, ((0, len(before + text + after)),))
        whole = bos + text + (reference.eos_token if ends else "")
        return Rendered(whole, ((0, len(whole)),), ((len(bos), len(bos) + len(text)),))

    def _bare(self, conversation: Conversation) -> Conversation:
        """A single question that already stands in the template's own text: without it, so that it is not templated twice."""
        assert self.supervisor is not None
        users = [number for number, one in enumerate(conversation.messages) if one.role == USER]
        if len(users) != 1:
            return conversation
        asked = conversation.messages[users[0]]
        before, behind = self.supervisor.prompt_pieces()
        bare = unwrapped(asked.content, before, behind)
        if bare is None:  # rendered for an answer that begins with its own reasoning
            bare = unwrapped(asked.content, before, _NO_REASONING.sub("", behind))
        if bare is None:
            return conversation
        messages = [self._without_end(one) if one.role == ASSISTANT else one for one in conversation.messages]
        messages[users[0]] = replace(asked, content=bare)
        return replace(conversation, messages=tuple(messages))

    def _without_end(self, answer: Message) -> Message:
        """The answer to such a question, without a control token behind it: the template writes its own."""
        found = list(self.tokenizer.finder().tokens.finditer(answer.content))
        ends = bool(found) and not answer.content[found[-1].end() :].strip()
        return replace(answer, content=answer.content[: found[-1].start()].rstrip()) if ends else answer

    def _row(self, rendered: Rendered, tokens: ChatTokens, conversation: Conversation) -> ChatRow | str:
        answers = [_run(tokens.within([span])) for span in rendered.answers]
        learned = self._chosen(answers, conversation, len(tokens.ids))
        if not any(end > max(1, begin) for begin, end in learned):
            return "nothing to learn: no answer is supervised"
        answer = (0, 0) if self.supervisor is None else answers[-1]
        over = len(tokens.ids) - self.max_length
        if over <= 0:
            return ChatRow(tokens.ids, learned, 0, answer)
        first = min(begin for begin, _ in answers)
        if not self.cuts_prompts or first - self._head(tokens.ids) < over:
            return (
                f"too long: {len(tokens.ids):,} tokens, data.max_length is {self.max_length:,}, and its answer would be cut "
                f"(the prompt has {first:,})"
            )
        return self._cut_to(tokens.ids, learned, self.max_length, answer)

    def _chosen(self, answers: list[Span], conversation: Conversation, length: int) -> tuple[Span, ...]:
        if self.supervise == EVERYTHING or self.supervisor is None:
            return ((0, length),)
        turns = [one for one in conversation.messages if one.role == ASSISTANT]
        learned = [span for span, turn in zip(answers, turns, strict=True) if turn.learned]
        if self.supervise == LAST_ANSWER:
            return (answers[-1],) if turns[-1].learned else ()
        return tuple(learned)

    def _cut_to(self, ids: np.ndarray, learned: tuple[Span, ...], length: int, answer: Span = (0, 0)) -> ChatRow:
        over = len(ids) - length
        if over <= 0:
            return ChatRow(ids, learned)
        head = self._head(ids)
        moved = tuple((max(0, begin - over), end - over) for begin, end in learned)
        last = (max(0, answer[0] - over), max(0, answer[1] - over))
        return ChatRow(np.concatenate([ids[:head], ids[head + over :]]), moved, over, last)

    def _head(self, ids: np.ndarray) -> int:
        """A BOS (or CLS) token at the beginning is kept whatever is cut."""
        tokenizer = self.tokenizer.tokenizer
        firsts = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
        return int(len(ids) > 0 and int(ids[0]) in firsts)


_NO_REASONING = re.compile(r"<think>\s*</think>\s*\Z")


def unwrapped(text: str, before: str, behind: str) -> str | None:
    """The question in a text that carries a template's own words around it; None where it does not."""
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
    """The run of True. An answer's tokens stand together."""
    found = np.flatnonzero(inside)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
