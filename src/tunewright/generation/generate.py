"""Token ids -> the tokens that a causal model generates after them: greedy or sampled, a pure function of the seed.

    for token in generate(model, [1, 403, 407], Sampling(max_new_tokens=3), end_ids={2}):
        print(token)                     261   378   432

Logits become probabilities as in transformers' `generate`: temperature, then the `top_k` most probable tokens, then the fewest that
reach `top_p` (Holtzman et al. 2020). temperature 0 is greedy: the most probable token each time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tunewright.errors import UserError
from tunewright.models.document_isolation import takes_positions
from tunewright.models.kv_cache import cache_of, cache_word


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen. stop: texts that end a completion, not included in it."""

    max_new_tokens: int = 100
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            ("--max-new-tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more"),
            ("--temperature", self.temperature, self.temperature >= 0, "0 (greedy) or more"),
            ("--top-k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more"),
            ("--top-p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
        ]
        for option, value, right, expected in wrong:
            if not right:
                raise UserError("invalid sampling option", where=option, found=str(value), expected=expected)


def probabilities(logits_V: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """float64 `(V,)` that sums to 1: what the next token is drawn from. temperature must not be 0."""
    logits_V = logits_V.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(sampling.top_k).values[-1], -torch.inf)
    if sampling.top_p < 1:
        ordered, places = logits_V.sort(descending=True, stable=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits_V = logits_V.index_fill(0, places[before >= sampling.top_p], -torch.inf)
    return logits_V.softmax(-1)


def next_token(logits_V: torch.Tensor, sampling: Sampling, rng: np.random.Generator) -> int:
    """Greedy, or drawn by inversion: one uniform number a token, the same on every device."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    cumulative = probabilities(logits_V, sampling).cumsum(-1).cpu().numpy()
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right").clip(0, len(cumulative) - 1))


_OF_KEYS_AND_VALUES = ("DynamicLayer", "DynamicSlidingWindowLayer")


class Continued:
    """A model's logits of the next token, step by step: with its cache of keys and values, or recomputed where it has none.

    step = Continued(model)
    step.logits(prompts_BL, mask_BL)      (rows, vocabulary)
    step.logits(new_B1, mask_BM)          M = L + 1: only the new tokens are given
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self.anew = False
        self._ids: torch.Tensor | None = None
        parameters = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._cache_word = cache_word(model)
        self._positioned = takes_positions(model)

    @property
    def rows_can_leave(self) -> bool:
        """Whether rows can be removed from the cache: one with only keys and values, on every layer."""
        layers = getattr(self._cache, "layers", ())
        return self.anew or (bool(layers) and all(type(layer).__name__ in _OF_KEYS_AND_VALUES for layer in layers))

    def logits(self, ids_BN: torch.Tensor, mask_BM: torch.Tensor) -> torch.Tensor:
        """ids: the new tokens of each row. mask: over all of its tokens so far, 0 on padding at the left. fp32 `(rows, vocabulary)`."""
        self._ids = ids_BN if self._ids is None else torch.cat([self._ids, ids_BN], 1)
        given = self._ids if self.anew else ids_BN
        positions = {"position_ids": (mask_BM.cumsum(1) - 1).clamp(0)[:, -given.shape[1] :]} if self._positioned else {}
        cached: dict[str, Any] = {} if self.anew else {"use_cache": True}
        if self._cache is not None:
            cached[self._cache_word] = self._cache
        output = self._model(input_ids=given, attention_mask=mask_BM, **cached, **self._last_only, **positions)
        self._cache = None if self.anew else cache_of(output)
        self.anew = self._cache is None
        return output.logits[:, -1].float()

    def keep(self, rows: torch.Tensor) -> None:
        """Continue with these rows only."""
        assert self._ids is not None
        self._ids = self._ids[rows]
        if self._cache is not None:
            self._cache.batch_select_indices(rows)


@torch.inference_mode()
def generate(
    model: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    end_ids: frozenset[int] = frozenset(),
    longest: int | None = None,
) -> Iterator[int]:
    """New tokens as they come; an end token is the last one given. longest: positions the model has, the prompt included."""
    rng = np.random.default_rng(sampling.seed)
    device = next(model.parameters()).device
    ids, step = torch.tensor([list(prompt)], device=device), Continued(model)
    mask = torch.ones_like(ids)
    room = sampling.max_new_tokens if longest is None else min(sampling.max_new_tokens, longest - len(prompt))
    for _ in range(room):
        token = next_token(step.logits(ids, mask)[0], sampling, rng)
        yield token
        if token in end_ids:
            return
        ids = torch.tensor([[token]], device=device)
        mask = torch.cat([mask, mask.new_ones(1, 1)], 1)


def write(
    model: Any, prompt: Sequence[int], tokenizer: Any, sampling: Sampling, *, end_ids: frozenset[int], longest: int
) -> Writing:
    """A completion as text, piece by piece as it becomes final."""
    tokens = generate(model, prompt, sampling, end_ids=end_ids, longest=longest)
    return Writing(tokens, Stream(tokenizer, prompt, stop=sampling.stop), end_ids)


class Writing(Iterator[str]):
    """Pieces of a completion. ended: `end` (an end token), `stop` (a stop string) or `length`, known at the end."""

    def __init__(self, tokens: Iterator[int], stream: Stream, end_ids: frozenset[int]) -> None:
        self.ended, self.num_tokens = "length", 0
        self._pieces = self._written(tokens, stream, end_ids)

    def __next__(self) -> str:
        return next(self._pieces)

    def _written(self, tokens: Iterator[int], stream: Stream, end_ids: frozenset[int]) -> Iterator[str]:
        for token in tokens:
            if token in end_ids:
                self.ended = "end"
                break
            self.num_tokens += 1
            if piece := stream.add(token):
                yield piece
            if stream.stopped:
                self.ended = "stop"
                return
        if piece := stream.finish():
            yield piece


class Stream:
    """Tokens -> text as it becomes final: incomplete characters, and what may become a stop string, are held back."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], *, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._prompt, self._stop = tokenizer, list(prompt), [one for one in stop if one]
        self._ids: list[int] = []
        self._before = self._decoded(self._prompt)
        self.text = ""
        """The text given so far."""
        self.stopped = False
        """Whether a stop string was generated; it is not part of the text."""

    def _decoded(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def add(self, token: int) -> str:
        """The text that has become final with this token."""
        self._ids.append(token)
        return self._give(self._new_text(), last=False)

    def finish(self) -> str:
        """The text that was held back, at the end."""
        return "" if self.stopped else self._give(self._new_text(), last=True)

    def _new_text(self) -> str:
        return self._decoded([*self._prompt, *self._ids])[len(self._before) :]

    def _give(self, text: str, *, last: bool) -> str:
        ends = [place for one in self._stop if (place := text.find(one)) >= 0]
        if ends:
            self.stopped = True
            certain = text[: min(ends)]
        elif last:
            certain = text
        else:
            certain = text[: len(text) - self._held_back(text)]
        new, self.text = certain[len(self.text) :], max(certain, self.text, key=len)
        return new

    def _held_back(self, text: str) -> int:
        """Characters at the end that may still change: half a character, the beginning of a stop string."""
        unfinished = len(text) - len(text.rstrip("\ufffd"))
        starts = [n for one in self._stop for n in range(1, len(one)) if text.endswith(one[:n])]
        return max([unfinished, *starts])
