"""A text -> its completion by a causal language model, as the beginning of a document it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.encoding.packing import Frame
from tunewright.generation.generate import Sampling, Stream, Writing, write
from tunewright.generation.generate_rows import generate_rows
from tunewright.records import Completion, Example
from tunewright.tokenization.encoder import TextEncoder


@dataclass(frozen=True)
class DocumentWriter:
    """See `writing.Writer`."""

    model: Any
    encoder: TextEncoder
    sampling: Sampling

    def complete(self, examples: Sequence[Example]) -> list[Completion]:
        """Completions, generated in batches; one by one with stop texts, so that nothing is generated after one."""
        prompts = [self._prompt(example) for example in examples]
        if self.sampling.stop:
            return [
                self._completion(example, num_cut, self._write(ids))
                for example, (ids, num_cut) in zip(examples, prompts, strict=True)
            ]
        written = generate_rows(
            self.model, [ids for ids, _ in prompts], self.sampling, end_ids=self._end_ids,
            pad_id=self.encoder.pad_token_id, longest=self.encoder.max_length,
        )  # fmt: skip
        return [
            self._completion(
                example, num_cut, Writing(iter(tokens), Stream(self.encoder.tokenizer, ids), self._end_ids)
            )
            for example, (ids, num_cut), tokens in zip(examples, prompts, written, strict=True)
        ]

    def written(self, example: Example) -> Iterator[str]:
        return self._write(self._prompt(example)[0])

    def _write(self, prompt: list[int]) -> Writing:
        longest = self.encoder.max_length
        return write(self.model, prompt, self.encoder.tokenizer, self.sampling, end_ids=self._end_ids, longest=longest)

    def _completion(self, example: Example, num_cut: int, writing: Writing) -> Completion:
        return Completion(example.text, "".join(writing), writing.ended, writing.num_tokens, num_cut)

    def _prompt(self, example: Example) -> tuple[list[int], int]:
        """(the beginning of a document as in training, tokens cut off its front); at least half of the positions remain for new tokens."""
        longest = self.encoder.max_length
        ids = [*Frame.of(self.encoder).before, *self.encoder.bare_ids([example.text]).ids.tolist()]
        room = longest - min(self.sampling.max_new_tokens, longest // 2)
        return ids[-room:], max(0, len(ids) - room)

    @property
    def _end_ids(self) -> frozenset[int]:
        """Tokens that end a document, or begin another."""
        frame = Frame.of(self.encoder)
        return frozenset({frame.after[-1], frame.before[0]})
