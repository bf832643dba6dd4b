"""A text -> what a causal language model writes after it, as after the beginning of a document it was trained on."""

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
        """Written side by side; one by one where a text may end them, so that nothing is written behind it."""
        prompts = [self._prompt(example) for example in examples]
        if self.sampling.stop:
            return [self._alone(*each) for each in zip(examples, prompts, strict=True)]
        written = generate_rows(
            self.model, [ids for ids, _ in prompts], self.sampling, end_ids=self._end_ids,
            pad_id=self.encoder.pad_token_id, longest=self.encoder.max_length,
        )  # fmt: skip
        return [self._completion(*each) for each in zip(examples, prompts, written, strict=True)]

    def written(self, example: Example) -> Iterator[str]:
        return self._write(self._prompt(example)[0])

    def _write(self, prompt: list[int]) -> Writing:
        longest = self.encoder.max_length
        return write(self.model, prompt, self.encoder.tokenizer, self.sampling, end_ids=self._end_ids, longest=longest)

    def _alone(self, example: Example, prompt: tuple[list[int], int]) -> Completion:
        done = self._write(prompt[0])
        return Completion(example.text, "".join(done), done.ended, done.num_tokens, prompt[1])

    def _completion(self, example: Example, prompt: tuple[list[int], int], tokens: list[int]) -> Completion:
        ids, num_cut = prompt
        done = Writing(iter(tokens), Stream(self.encoder.tokenizer, ids, stop=self.sampling.stop), self._end_ids)
        return Completion(example.text, "".join(done), done.ended, done.num_tokens, num_cut)

    def _prompt(self, example: Example) -> tuple[list[int], int]:
        """(a document's beginning as it is trained, tokens cut off its front): half of the positions at least are left to write in."""
        longest = self.encoder.max_length
        ids = [*Frame.of(self.encoder).before, *self.encoder.bare_ids([example.text]).ids.tolist()]
        room = longest - min(self.sampling.max_new_tokens, longest // 2)
        return ids[-room:], max(0, len(ids) - room)

    @property
    def _end_ids(self) -> frozenset[int]:
        """Tokens that end a document, or begin another."""
        frame = Frame.of(self.encoder)
        return frozenset({frame.after[-1], frame.before[0]})
