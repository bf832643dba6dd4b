"""What tasks that compare answers share: how their rows are understood, stored and batched. Not a task itself.

    {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
      -> Comparison(user "Hi", assistant "Hello!" | user "Hi", assistant "What.")
      -> one store row [1 872 6023 … | 1 872 3838 …], second 6, learned [4 6 10 13]
      -> Batch: two texts a row, all chosen sides first, each with dropout masks of its own

A pair is one row of the plan, so both sides are always in one micro-batch.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from pydantic import Field

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore, text_keys
from tunewright.chat.conversations import ALPACA, MESSAGES, PAIR, Dialogues
from tunewright.chat.preference_columns import PAIRS, UNPAIRED, Preferences, find_preferences
from tunewright.chat.preferences import parse_comparison, parse_prompt
from tunewright.encoding.dialogue_rows import ANSWERS
from tunewright.encoding.pair_rows import SidedRow, sided_rows, sides_of
from tunewright.errors import RowError, UserError, counted, quoted
from tunewright.metrics.preference import (
    judged_intervals,
    judged_scores,
    length_warning,
    longer_wins,
    pair_intervals,
    pair_scores,
)
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.detect import check_columns, is_prose, peek
from tunewright.reading.file_shapes import shape_of, with_shape
from tunewright.records import IGNORED, Batch, Encoded, Example, Row
from tunewright.tasks import base, sft
from tunewright.tasks.base import ExplainedRow, explained_row
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder

Text = tuple[np.ndarray, np.ndarray]
"""Ids of one side, and which of them are an answer's."""


class ChatOptions(sft.ConversationOptions):
    """What tasks that compare answers have in common."""

    reads = frozenset({"data.label", "data.weight"})

    template: str = Field(
        "auto",
        description="How conversations become text: alpaca, chatml, encoder, gemma, llama3, mistral, plain, question-answer, qwen3, or Jinja. "
        "auto: the tokenizer's own, else alpaca for instructions, else plain.",
    )


@dataclass(frozen=True)
class PairwiseTask(base.Task):
    """What comparing tasks share: rows, templates, the store, batches. chat: how conversations become tokens, and are answered."""

    preferences: Preferences
    chat: sft.Task
    weight: str | None = None

    @property
    def columns(self) -> TextColumns:  # type: ignore[override]
        prompt = self.preferences.prompt or self.preferences.chosen or ""
        return TextColumns((prompt,), None, self.preferences.chosen or self.preferences.label, self.weight)

    # Understanding rows

    @classmethod
    def _begin(
        cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]
    ) -> tuple[Preferences, sft.Task]:
        data, text = config.data, named_text(config)
        check_columns(data, columns, where=source.name, keys=("text", "label", "weight", "group_by"))
        found = find_preferences(columns, rows, text=text, label=data.label)
        if found is None:
            raise UserError(
                "no compared answers found", where=source.name, found=quoted(columns),
                expected="chosen and rejected, several answers with scores, or one answer with a label of true or false",
                hint="Name the columns so; data.text is the column of prompts, data.label that of judgements.",
            )  # fmt: skip
        _refuse_other_prompt(found, columns, rows)
        options = config.task if isinstance(config.task, ChatOptions) else ChatOptions()
        chat = sft.Task(
            dialogues=_dialogues_of(found), template=options.template, template_kwargs=dict(options.template_kwargs),
            supervise=ANSWERS, too_long=options.too_long, reasoning=options.reasoning,
            strip_end_tokens=options.strip_end_tokens,
        )  # fmt: skip
        return found, chat

    def _reason(self) -> str:
        return (
            ", ".join(f"{role} {column!r}" for role, column in self.preferences.columns.items())
            + " by name and content"
        )

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str) -> Self:
        return replace(self, chat=self.chat.with_labels(counts, model, where=where))

    def settings(self) -> dict[str, Any]:
        named = {"text": self.preferences.prompt, "label": self.preferences.label}
        return {**{key: name for key, name in named.items() if name}, "on_bad_rows": "skip"}

    def describe(self) -> dict[str, str]:
        return self.preferences.columns

    @property
    def read_columns(self) -> tuple[str, ...]:
        return self.preferences.read_columns

    def answer_shown(self, split: SplitStore, encoder: TextEncoder) -> str | None:
        if not len(split):
            return None
        return sft.answer_begins(*self.sides(split, np.array([0]))[0][0], encoder)

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        """Another file, read by its own shape where it has not the columns of the first. UserError for pairs among judged answers."""
        rows, columns = peek(source)
        if not rows or not columns or not labelled or set(self.preferences.needed) <= set(columns):
            return source
        found = find_preferences(columns, rows)
        if found is None or found == self.preferences:
            return source
        if (found.format == UNPAIRED) != (self.preferences.format == UNPAIRED):
            raise UserError(
                "pairs of answers and single answers cannot be compared together", where=source.name, found=quoted(columns),
                expected=f"a file like the first one ({', '.join(self.preferences.columns.values())})", hint="Train on them in turn.",
            )  # fmt: skip
        return with_shape(source, found, found.columns)

    def to_example(self, row: Row) -> Example:
        row, preferences = shape_of(row, self.preferences)
        found = parse_comparison(row, preferences)
        text = "\n".join(one.content for one in found[0].chosen.messages)
        weight = self.columns.weight_of(row)
        return Example(text, target=found, weight=weight, group=found[0].chosen.prompt or None)

    def to_input(self, row: Row) -> Example:
        row, preferences = shape_of(row, self.preferences)
        found = parse_prompt(row, preferences)
        return Example("\n".join(one.content for one in found.messages), target=found)

    def duplicate_key(self, example: Example) -> str:
        bare = [asdict(replace(one, chosen=replace(one.chosen, unread=()))) for one in example.target]
        return json.dumps(bare, sort_keys=True, default=str)

    def display_target(self, example: Example) -> Any:
        if not isinstance(example.target, tuple):
            return None
        names = ("chosen", "rejected") if self.has_pairs else ("answer",)
        shown = [
            {name: side.messages[-1].content for name, side in zip(names, one.sides, strict=True)}
            for one in example.target
        ]
        return shown if self.has_pairs else [{**shown[0], "good": example.target[0].good}]

    @property
    def dialogues(self) -> Dialogues:
        return self.chat.dialogues

    @property
    def chat_template(self) -> str | None:
        return self.chat.template

    @property
    def texts_per_row(self) -> int:
        return 2 if self.has_pairs else 1

    @property
    def has_pairs(self) -> bool:
        return self.preferences.format != UNPAIRED

    def data_warnings(self, store: TokenStore) -> list[str]:
        cut = sum(int((store[split].num_cut > 0).sum()) for split in store.splits)
        too_long = f"{counted(cut, 'row')} too long: the start of the prompt is cut, the answers are whole."
        return [*sft.told_of(store), *([too_long] if cut else [])]

    def findings(self, store: TokenStore) -> list[str]:
        kinds = {"good": 0, "bad": 0}
        for split in store.splits:
            good = store[split].array("good").astype(bool)
            kinds = {"good": kinds["good"] + int(good.sum()), "bad": kinds["bad"] + int((~good).sum())}
        if self.has_pairs or all(kinds.values()):
            return sft.ends_found(store)
        kind = "good" if kinds["good"] else "bad"
        return [
            f"All {kinds[kind]:,} answers are called {kind}: there is nothing to compare. Add answers of the other kind"
            + (", or learn these with task=sft." if kind == "good" else "."),
            *sft.ends_found(store),
        ]

    def stratum_of(self, example: Example) -> str | None:
        return None if self.has_pairs else "good" if example.target[0].good else "bad"

    # Tokens and batches

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """A row for each comparison of an example: one, or as many as there are answers worse than the best."""
        if not all(isinstance(example.target, tuple) for example in examples):
            return self.encode_inputs(examples, encoder)
        chats = self.chat.dialogue_encoder(encoder)
        found = [one for example in examples for one in example.target]
        of = [number for number, example in enumerate(examples) for _ in example.target]
        rows = sided_rows(chats, found, max_length=encoder.max_length)
        rejected = {number: row for number, row in zip(of, rows, strict=True) if isinstance(row, str)}
        kept = [
            (number, row, one.good)
            for number, row, one in zip(of, rows, found, strict=True)
            if isinstance(row, SidedRow) and number not in rejected
        ]
        return EncodedRows.of(
            [Encoded(row.ids, num_cut=row.num_cut) for _, row, _ in kept],
            example=[number for number, _, _ in kept],
            num_supervised=[row.num_supervised for _, row, _ in kept],
            values={
                "second": [row.second for _, row, _ in kept],
                "learned": [row.learned for _, row, _ in kept],
                "good": [int(good) for _, _, good in kept],
                "told": [sft.facts_of(examples[number].target[0].chosen, row.notes) for number, row, _ in kept],
            },
            rejected=rejected,
        )

    def encode_inputs(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Prompts alone, for prediction."""
        return self.chat.encode(examples, encoder)

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        encoded = self.encode([example], encoder)
        if encoded.rejected:
            raise RowError(encoded.rejected[0])
        shown = []
        for row in encoded:
            assert row.values is not None
            for ids, inside in sides_of(row.input_ids, row.values["second"], np.array(row.values["learned"])):
                shown.append(explained_row(Encoded(ids), encoder))
                for token, yes in zip(shown[-1].tokens, inside, strict=True):
                    token["supervised"] = bool(yes)
        return shown

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        return False

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        return {"second": pa.int32(), "learned": pa.list_(pa.int32()), "good": pa.int8(), "told": pa.string()}

    def sides(self, split: SplitStore, positions: np.ndarray) -> list[list[Text]]:
        """The texts of each row."""
        second, learned = split.array("second"), split.lists("learned", positions)
        return [
            list(sides_of(split.input_ids(int(position)), int(second[position]), spans))
            for position, spans in zip(positions, learned, strict=True)
        ]

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """Two texts a row where there are pairs, all chosen ones first. targets: `labels`, and `good`, one a row."""
        import torch

        batch = self._texts(self.sides(split, positions), split.keys[positions], encoder, padding)
        good = torch.from_numpy(split.array("good")[positions].astype(bool))
        return replace(batch, targets={**batch.targets, "good": good})

    def _texts(self, rows: list[list[Text]], keys: np.ndarray, encoder: TextEncoder, padding: Padding) -> Batch:
        from tunewright.batching.micro_batches import pad, padded_inputs

        texts = [text for side in zip(*rows, strict=True) for text in side]
        batch = padded_inputs([Encoded(ids) for ids, _ in texts], encoder, padding)
        targets = {
            name: pad(values, value=IGNORED, width=batch.width, left=encoder.padding_side == "left")
            for name, values in self._labels(texts, len(rows)).items()
        }
        return replace(batch, targets=targets, row_ids=text_keys(keys, self.texts_per_row))

    def _labels(self, texts: list[Text], num_rows: int) -> dict[str, list[np.ndarray]]:
        """Name -> per text, at each position, the answer's token that comes next."""
        return {"labels": [next_tokens(ids, inside) for ids, inside in texts]}

    # Scores

    def metric_names(self) -> list[str]:
        return ["loss", "pair_accuracy", "margin", "reward_chosen", "reward_rejected"]

    def best_metric(self) -> str:
        return "pair_accuracy"

    def metrics_without_value(self, split: SplitStore) -> dict[str, str]:
        kind = None if self.has_pairs else _one_kind(split)
        if kind is None:
            return {}
        absent = ("pair_accuracy", "margin", "reward_rejected" if kind == "good" else "reward_chosen")
        return dict.fromkeys(absent, f"its rows hold {kind} answers only")

    def answer_lengths(self, split: SplitStore) -> np.ndarray:
        """float `(rows, sides)`: tokens of each answer."""
        rows = self.sides(split, np.arange(len(split)))
        return np.array([[inside.sum() for _, inside in row] for row in rows], dtype=float)

    def baselines(self, train: SplitStore, split: SplitStore, encoder: TextEncoder) -> dict[str, dict[str, float]]:
        """longer_wins: the longer answer is taken for the better one."""
        return {"longer_wins": longer_wins(self.answer_lengths(split))} if self.has_pairs else {}

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        rewards, ratios = self.rewards(scores)
        lengths = self.answer_lengths(split)
        if self.has_pairs:
            found = pair_scores(rewards, lengths, ratios_R2=ratios)
            between = pair_intervals(rewards, seed=0) if intervals else None
        else:
            good = split.array("good").astype(bool)
            found = judged_scores(rewards[:, 0], lengths[:, 0], good, ratios_R=None if ratios is None else ratios[:, 0])
            between = judged_intervals(rewards[:, 0], good, seed=0) if intervals else None
        warning = length_warning(found)
        said = [warning + self.length_hint] if warning else []
        if not self.has_pairs and (kind := _one_kind(split)):
            said.append(f"the {split.name} rows hold {kind} answers only: pair_accuracy and margin have no value")
        result: dict[str, Any] = {"metrics": found, **({"warnings": said} if said else {})}
        return result if between is None else {**result, "intervals": between}

    @property
    def length_hint(self) -> str:
        """What the warning of length goes on with: an option that keeps length out, if there is one."""
        return ""

    @abstractmethod
    def rewards(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(rewards `(rows, sides)`, log-ratios to the start model where there is one)."""

    def worst(self, scores: np.ndarray, split: SplitStore, limit: int) -> list[dict[str, Any]]:
        """Pairs that are preferred the wrong way round by most; a label that does not fit its reward."""
        rewards, _ = self.rewards(scores)
        if self.has_pairs:
            wrong, gold = rewards[:, 1] - rewards[:, 0], ["chosen"] * len(rewards)
        else:
            good = split.array("good").astype(bool)
            middle = np.median(rewards[:, 0])
            wrong, gold = (
                np.where(good, middle - rewards[:, 0], rewards[:, 0] - middle),
                np.where(good, "good", "bad").tolist(),
            )
        other = {"chosen": "rejected", "good": "bad", "bad": "good"}
        order = [int(row) for row in np.argsort(-wrong, kind="stable")[:limit] if wrong[row] > 0]
        return [
            {
                "row": split.address(row),
                "position": row,
                "gold": gold[row],
                "predicted": other[gold[row]],
                "score": float(wrong[row]),
            }
            for row in order
        ]


def _one_kind(split: SplitStore) -> str | None:
    """`good` or `bad` where single answers are all called that."""
    good = split.array("good").astype(bool)
    return None if len(set(good.tolist())) != 1 else "good" if good[0] else "bad"


def next_tokens(ids: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """At each position the token behind it, where that one is inside. [5 6 7], [0 0 1] -> [-100 7 -100]"""
    return np.append(np.where(inside[1:], ids[1:], IGNORED), IGNORED)


def _dialogues_of(found: Preferences) -> Dialogues:
    """The columns as supervised fine-tuning would call them: decides which template is the usual one."""
    kind = ALPACA if found.is_instruction else PAIR if found.completion or found.chosen else MESSAGES
    return Dialogues(kind, found.prompt or found.chosen or "", found.chosen or found.completion, input=found.input)


def named_text(config: Any) -> str | None:
    text: str | list[str] | None = config.data.text
    if isinstance(text, list):
        raise UserError("prompts are in one column", where="data.text", found=quoted(text), hint="Name one column.")
    return text


def _refuse_other_prompt(found: Preferences, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """UserError where plain answers come without a known prompt, and beside a text: how they begin would not be what was asked."""
    sides = [row.fields.get(str(found.chosen)) for row in rows]
    if found.format != PAIRS or found.prompt is not None or not all(isinstance(one, str) for one in sides):
        return
    used = {found.chosen, found.rejected, found.system}
    texts = [one for one in columns if one not in used and is_prose([row.fields.get(one) for row in rows])]
    if texts and 2 * sum(_has_no_prompt(row, found) for row in rows) > len(rows):
        raise UserError(
            "no column is known to hold the prompts", where=rows[0].source, found=quoted(texts),
            hint=f"Set data.text to it, data.text={texts[0]}; or leave such columns out of the file.",
        )  # fmt: skip


def _has_no_prompt(row: Row, found: Preferences) -> bool:
    try:
        return not parse_comparison(row, found)
    except RowError as error:
        return error.reason.startswith("no prompt")
