"""A question or a conversation -> the answer of a tuned model; and scores of its answers against the right ones.

Prompts are rendered as in training. Answers end at the tokens that ended them there; reasoning is separated from the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.batching.store import SplitStore
from tunewright.chat.messages import USER, Conversation, single_turn
from tunewright.chat.reasoning import answer_pieces, opens_reasoning, split_reasoning
from tunewright.encoding.dialogue_rows import ChatRow, DialogueEncoder
from tunewright.errors import RowError, UserError, quoted
from tunewright.generation.generate import Sampling, Stream, Writing, write
from tunewright.generation.generate_rows import generate_rows
from tunewright.metrics.generation import answer_scores, generation_scores
from tunewright.records import Answer, Example
from tunewright.tokenization.encoder import TextEncoder

_SLACK = 16
"""Tokens by which a generated answer may exceed the longest right one."""


@dataclass(frozen=True)
class AnswerWriter:
    """See `writer.Answers`. end_ids: tokens that end an answer."""

    model: Any
    encoder: TextEncoder
    sampling: Sampling
    chats: DialogueEncoder
    end_ids: frozenset[int]

    def complete(self, examples: Sequence[Example]) -> list[Answer]:
        """Answers, generated in batches."""
        prompts = self._prompts(examples)
        written = generate_rows(
            self.model, [row.ids.tolist() for row in prompts], self.sampling, end_ids=self.end_ids,
            pad_id=self.encoder.pad_token_id, longest=self.encoder.max_length,
        )  # fmt: skip
        return [self._answer(*each) for each in zip(examples, prompts, written, strict=True)]

    def written(self, example: Example) -> Iterator[str]:
        """The answer piece by piece, without reasoning before it."""
        prompt = self._prompts([example])[0].ids.tolist()
        longest = self.encoder.max_length
        pieces = write(self.model, prompt, self.encoder.tokenizer, self.sampling, end_ids=self.end_ids, longest=longest)
        return answer_pieces(pieces, opened=_opened(self.encoder, prompt))

    def trim_history(self, conversation: Conversation) -> tuple[Conversation, int, int]:
        """(the conversation from the first question with which it fits, number of turns left out, tokens still cut)."""
        messages = conversation.messages
        begins = [number for number, one in enumerate(messages) if one.role == USER]
        if not begins:
            raise UserError(
                "the conversation has no question", found=quoted(one.role for one in messages), expected="a user turn"
            )
        for begin in begins:
            kept = replace(conversation, messages=messages[: begins[0]] + messages[begin:])
            num_cut = self._prompts([Example("", target=kept)])[0].num_cut
            if not num_cut or begin == begins[-1]:
                break
        return kept, begin - begins[0], num_cut

    def _prompts(self, examples: Sequence[Example]) -> list[ChatRow]:
        """The rendered prompts; at least half of the positions remain for the answer."""
        room = min(self.sampling.max_new_tokens, self.encoder.max_length // 2)
        asked = [example.target or single_turn(example.text, None) for example in examples]
        try:
            return self.chats.for_generation(asked, room=room)
        except RowError as error:
            raise UserError(
                error.reason, hint="Change the conversation, or train with another task.template."
            ) from None

    def _answer(self, example: Example, prompt: ChatRow, tokens: list[int]) -> Answer:
        ids = prompt.ids.tolist()
        if self.sampling.stop:
            stream = Stream(self.encoder.tokenizer, ids, stop=self.sampling.stop)
            writing = Writing(iter(tokens), stream, self.end_ids)
            text, ended, count = "".join(writing), writing.ended, writing.num_tokens
        else:
            ended = "end" if tokens and tokens[-1] in self.end_ids else "length"
            count = len(tokens) - (ended == "end")
            text = _decoded(self.encoder, [*ids, *tokens])[len(_decoded(self.encoder, ids)) :]
        reasoning, text = split_reasoning(text, opened=_opened(self.encoder, ids))
        return Answer(example.text, text, ended, count, prompt.num_cut, reasoning)


def generation_metrics(
    model: Any, split: SplitStore, encoder: TextEncoder, *, end_ids: frozenset[int], num_generated: int
) -> dict[str, Any]:
    """`metrics` of answers generated to a seeded sample of a split's prompts, and their `worst_rows`."""
    places = np.array(split.lists("answer", range(len(split))))
    able = np.flatnonzero(places[:, 1] - places[:, 0] > 0) if len(places) else np.zeros(0, int)
    sample = np.sort(np.random.default_rng(0).permutation(able)[:num_generated])
    if not len(sample):
        return {}
    ids = [split.input_ids(int(row)).tolist() for row in sample]
    prompts = [one[:begin] for one, begin in zip(ids, places[sample, 0], strict=True)]
    right = [one[begin:end] for one, (begin, end) in zip(ids, places[sample], strict=True)]
    tokens = generate_rows(
        model, prompts, Sampling(temperature=0, max_new_tokens=max(map(len, right)) + _SLACK), end_ids=end_ids,
        pad_id=encoder.pad_token_id, longest=encoder.max_length,
    )  # fmt: skip
    opened = [_opened(encoder, prompt) for prompt in prompts]
    gold, written = (
        [split_reasoning(_decoded(encoder, one), opened=is_open)[1] for one, is_open in zip(each, opened, strict=True)]
        for each in (right, tokens)
    )
    scores = [answer_scores(one, other) for one, other in zip(written, gold, strict=True)]
    worst = sorted((score.rouge_l, number) for number, score in enumerate(scores) if score.exact < 1)
    rows = [
        {
            "row": split.address(int(sample[n])),
            "position": int(sample[n]),
            "gold": gold[n],
            "predicted": written[n],
            "score": score,
        }
        for score, n in worst
    ]
    return {"metrics": generation_scores(written, gold), "compared_rows": len(sample), "worst_rows": rows}


def _opened(encoder: TextEncoder, prompt: list[int]) -> bool:
    return opens_reasoning(encoder.tokenizer.decode(prompt))


def _decoded(encoder: TextEncoder, ids: Sequence[int]) -> str:
    return encoder.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
