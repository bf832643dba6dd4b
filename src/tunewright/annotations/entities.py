"""Row -> a text and its entities, whichever of the known shapes the row has.

    {"tokens": ["Ulm", "liegt"], "ner_tags": ["B-LOC", "O"]}             words and tags
    {"text": "Ulm liegt", "entities": [{"start": 0, "end": 3, "label": "LOC"}]}   (also doccano, Prodigy, Label Studio)
      ->  Annotated(text="Ulm liegt", spans=(Span(0, 3, "LOC"),), …)

Words are joined by one space. What is not gold (a rejected Prodigy example, a cancelled annotation, a prediction) is no label.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.annotations.spans import Span, characters_of, checked, join_words, stored_offsets, without_overlaps
from tunewright.annotations.tags import spans_of_tags
from tunewright.errors import RowError, RowSkipped, quoted
from tunewright.reading.entities import END_NAMES, LABEL_STUDIO, START_NAMES
from tunewright.reading.names import normalize_name
from tunewright.records import Row

LABEL_NAMES = (
    "label",
    "labels",
    "type",
    "entity",
    "tag",
    "class",
    "category",
    "entity_type",
    "entity_group",
    "ner_label",
)


class NotGold(RowSkipped):
    """A row that nobody has labelled, or that an annotator set aside."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A text and its entities, sorted and without overlaps; spans is None where only a text was read (prediction)."""

    text: str
    spans: tuple[Span, ...] | None = None
    words_W2: np.ndarray | None = None
    """int32 `(words, 2)`: start and end of each word, for a row of words; entities begin and end at words."""
    changes: tuple[str, ...] = ()
    """How the entities were changed: `utf16`, and one `trimmed` or `dropped` per changed entity."""


@dataclass(frozen=True)
class EntityReader:
    """Reads rows as texts with entities; tags are IOB2, as `entity_sources` gives them.

    text / label: the columns. overlaps: refuse, longest. annotator: the annotator to use where several disagree (an id,
    or `latest`).
    """

    text: str
    label: str | None
    overlaps: str = "refuse"
    annotator: str | None = None

    def input(self, row: Row) -> Annotated:
        """The text alone, for prediction."""
        value = self._value(row, self.text)
        if isinstance(value, list):
            text, words_W2 = _joined(value)
            return Annotated(text, words_W2=words_W2)
        return Annotated(_text(value, self.text))

    def read(self, row: Row) -> Annotated:
        """Raises RowError for a row that cannot be used, NotGold for one without gold labels."""
        if self.label in LABEL_STUDIO and isinstance(row.fields.get("data"), dict):
            text = _text(row.fields["data"], "data")
            items = _label_studio(row.fields.get(self.label or ""), self.annotator)
            return self._from_items(text, items)
        value = self._value(row, self.text)
        if isinstance(value, list):
            return self._from_words(value, row)
        answer = row.fields.get("answer", "accept")
        if answer != "accept":
            raise NotGold(f"its answer is {answer!r}, not 'accept'")
        return self._from_items(_text(value, self.text), self._items(row))

    def _value(self, row: Row, column: str) -> Any:
        if column not in row.fields:
            raise RowError(f"no field {column!r}; found {quoted(row.fields)}")
        return row.fields[column]

    def _items(self, row: Row) -> list[Any]:
        """The entities of a row with a text. Annotation tools omit the key, or write null, where there are none."""
        assert self.label is not None
        by_a_tool = any(key in row.fields for key in ("answer", "_input_hash", "annotation_id"))
        value = row.fields.get(self.label) if by_a_tool else self._value(row, self.label)
        if value is None and by_a_tool:
            return []
        if not isinstance(value, list):
            raise RowError(f"{self.label!r} holds {value!r:.80}, expected a list of entities")
        return value

    def _from_items(self, text: str, items: Sequence[Any]) -> Annotated:
        pairs = [pair for item in items for pair in _spans_of(item)]
        spans, utf16 = stored_offsets(text, [span for span, _ in pairs], [held for _, held in pairs])
        found, num_trimmed = checked(spans, text)
        kept, dropped = without_overlaps(found, self.overlaps)
        changes = ["utf16"] * utf16 + ["trimmed"] * num_trimmed + ["dropped"] * len(dropped)
        return Annotated(text, tuple(kept), changes=tuple(changes))

    def _from_words(self, words: list[Any], row: Row) -> Annotated:
        assert self.label is not None
        text, words_W2 = _joined(words)
        tags = self._value(row, self.label)
        if not isinstance(tags, list):
            raise RowError(f"{self.label!r} holds {tags!r:.80}, expected a list of tags")
        if len(tags) != len(words):
            raise RowError(f"{len(words)} words but {len(tags)} tags")
        if not all(isinstance(tag, str) for tag in tags):
            raise RowError(
                f"{self.label!r} holds {tags!r:.80}, expected tags; set data.label_names to name integer tags"
            )
        spans = spans_of_tags(tags, "IOB2")
        found, num_trimmed = checked(characters_of(spans, words_W2[:, 0], words_W2[:, 1]), text)
        return Annotated(text, tuple(found), words_W2, ("trimmed",) * num_trimmed)


def _joined(words: Sequence[Any]) -> tuple[str, np.ndarray]:
    wrong = next((word for word in words if not isinstance(word, str)), None)
    if wrong is not None:
        raise RowError(f"a word is {wrong!r:.80}, expected text")
    text, words_W2 = join_words(words)
    if not text.strip():
        raise RowError("blank text")
    return text, words_W2


def _text(value: Any, column: str) -> str:
    """A value that must be text; of a Label Studio task its field `text`, or its only text."""
    if isinstance(value, dict):
        texts = [part for part in value.values() if isinstance(part, str)]
        value = value["text"] if isinstance(value.get("text"), str) else texts[0] if len(texts) == 1 else value
    if not isinstance(value, str):
        raise RowError(f"{column!r} holds {value!r:.80}, expected text")
    if not value.strip():
        raise RowError("blank text")
    return value


def _label_studio(annotations: Any, annotator: str | None) -> list[Any]:
    """The gold entities of a task: what its annotators agree on, or those of the chosen annotator."""
    if not isinstance(annotations, list):
        raise RowError(f"the annotations are {annotations!r:.80}, expected a list")
    done = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not done:
        raise NotGold("every annotation of this row was cancelled")
    done = [one for one in done if one.get("ground_truth")] or done
    read = {number: _entities_of(one) for number, one in enumerate(done)}
    if len({tuple(sorted(map(repr, items))) for items in read.values()}) == 1:
        return read[0]
    if annotator == "latest":
        return read[max(read, key=lambda number: (str(done[number].get("updated_at") or ""), number))]
    names = [_annotator_of(one) for one in done]
    if annotator in names:
        return read[names.index(annotator)]
    if annotator is not None:
        raise NotGold(f"no annotation by {annotator}; found {quoted(names)}")
    raise RowError(f"the annotators {quoted(names)} disagree; set task.annotator to one of them, or to latest")


def _annotator_of(annotation: Mapping[str, Any]) -> str:
    by = annotation.get("completed_by")
    return str(by.get("email") or by.get("id")) if isinstance(by, dict) else str(by)


def _entities_of(annotation: Mapping[str, Any]) -> list[Any]:
    """The labelled spans of a result; relations, choices and ratings are no entities."""
    result = annotation.get("result") or []
    values: list[dict[str, Any]] = [
        one["value"] for one in result if isinstance(one, dict) and isinstance(one.get("value"), dict)
    ]
    return [{key: value[key] for key in _SPAN_KEYS if key in value} for value in values if value.get("labels")]


_SPAN_KEYS = ("start", "end", "text", "labels")


def _spans_of(item: Any) -> list[tuple[Span, str | None]]:
    """One entry of a list of entities -> (span, text stored for it in the file) for each of its labels."""
    if isinstance(item, list | tuple):
        if len(item) < 3:
            raise RowError(f"an entity is {item!r:.80}, expected [start, end, label]")
        (start, end, labels), held = item[:3], None
    elif isinstance(item, dict):
        fields = {normalize_name(str(key)): value for key, value in item.items()}
        start, end = _first(fields, START_NAMES), _first(fields, END_NAMES)
        if "length" in fields and not any(name in fields for name in END_NAMES if name != "length"):
            end = start + end if type(start) is int and type(end) is int else None
        labels, held = _first(fields, LABEL_NAMES), fields.get("text")
    else:
        raise RowError(f"an entity is {item!r:.80}, expected an object with start, end and label")
    if type(start) is not int or type(end) is not int:
        raise RowError(f"the entity {item!r:.120} needs integers as start and end")
    labels = labels if isinstance(labels, list) else [labels]
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise RowError(f"the entity {item!r:.120} has no label")
    return [
        (Span(operator.index(start), operator.index(end), label), held if isinstance(held, str) else None)
        for label in labels
    ]


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)
