"""Golden examples: some rows of a run with their token ids and outputs, kept beside the model to prove later what it does.

    RUN/model/golden.json    {"examples": [{"text": "Where is my parcel?", "why": "shortest", "rows": [{"input_ids": [101, …],
                              "outputs": [-1.2, 4.0, …]}], "plain": true}, …], "labels": ["order_status", …], …}

Chosen from the run's own rows: the shortest, the longest, truncated ones, some with letters beyond ASCII, some in which a control
token, or one that the user added, is typed, and evenly spread others; where the data has no such row, one is made of another.
Outputs are those of the trained network itself, in fp32, each row alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.batching.store import TokenStore
from tunewright.chat.messages import USER, Conversation, Message
from tunewright.chat.templates import Template, special_tokens
from tunewright.encoding.rendered import control_tokens
from tunewright.errors import RowError, UserError
from tunewright.files.atomic import write_json
from tunewright.pretrained.folder_checks import read_object
from tunewright.records import Batch, Encoded, Example, Reject, Row
from tunewright.tasks.base import Task
from tunewright.tokenization.added_tokens import own_words

FILE = "golden.json"
SCHEMA = 1
NUM_EXAMPLES = 16
TOLERANCE = 1e-5
_ROWS_READ = 20_000
_MOST_OUTPUTS = 1_024
_MOST_LABELS = 512  # more columns are a vocabulary
_MOST_ROWS = 3
_LONGEST_TEXT = 20_000
_BEYOND_ASCII = "naïve Größe 東京 🙂"
_LOGITS = ("logits", "prediction_logits")


@dataclass(frozen=True)
class GoldenText:
    """One input, and why it was taken."""

    text: str
    pair: str | None
    why: str

    @property
    def example(self) -> Example:
        return Example(self.text, self.pair)


class Choice:
    """Takes at least `NUM_EXAMPLES` inputs out of the rows of a run as they are read again."""

    def __init__(self, store: TokenStore, task: Task, encoder: Any) -> None:
        self._task, self._encoder = task, encoder
        self._reasons = _by_length(store)
        self._controls = [token for token in encoder.tokenizer.all_special_tokens if len(token) > 1]
        self._words = sorted(own_words(encoder.tokenizer))
        self._found: list[GoldenText] = []
        self._counts = {"added tokens": 0, "beyond ASCII": 0, "control tokens": 0}
        num_read = sum(source["read"] for source in store.manifest["ledger"]["sources"])
        self.last_row_id = max(*self._reasons, min(_ROWS_READ, num_read - 1))

    def see(self, row_id: int, row: Row | Reject) -> None:
        example = _input_of(self._task, row)
        if example is None or len(example.text) > _LONGEST_TEXT:
            return
        typed = f"{example.text} {example.pair or ''}"
        why = self._reasons.get(row_id)
        for name, holds in (
            ("added tokens", any(word in typed for word in self._words)),
            ("beyond ASCII", not typed.isascii()),
            ("control tokens", any(token in typed for token in self._controls)),
        ):
            if why is None and holds and self._counts[name] < 2:
                why = name
            self._counts[name] += holds
        if why is not None:
            self._found.append(GoldenText(example.text, example.pair, why))

    def texts(self) -> list[GoldenText]:
        """What was found, and what was made of it where the rows have none of a kind."""
        return self._found + list(_made(self._found, self._counts, self._controls, self._encoder))


def _by_length(store: TokenStore) -> dict[int, str]:
    """Row id -> why: two of the shortest and longest, two truncated, the others evenly spread over all rows."""
    splits = [store[name] for name in store.splits]
    ids = np.concatenate([split.row_ids for split in splits])
    lengths = np.concatenate([split.lengths for split in splits])
    cut = np.concatenate([split.num_cut for split in splits])
    order = np.argsort(lengths, kind="stable")
    reasons = {int(ids[place]): "shortest" for place in order[:2]}
    reasons |= {int(ids[place]): "longest" for place in order[-2:]}
    reasons |= {int(ids[place]): "truncated" for place in np.flatnonzero(cut)[:2]}
    for place in np.linspace(0, len(ids) - 1, 4 * NUM_EXAMPLES).astype(int):
        if len(reasons) >= NUM_EXAMPLES:
            break
        reasons.setdefault(int(ids[place]), "spread")
    return reasons


def _input_of(task: Task, row: Any) -> Example | None:
    if not isinstance(row, Row):
        return None
    try:
        return task.to_input(row)
    except RowError:
        return None


def _made(
    found: Sequence[GoldenText], counts: Mapping[str, int], controls: Sequence[str], encoder: Any
) -> Iterator[GoldenText]:
    """What the data does not have: beyond ASCII, control tokens, truncation; and enough of them, should rows be few."""
    first = found[0] if found else GoldenText("A text.", None, "made")
    if not counts["beyond ASCII"]:
        yield replace(first, text=f"{first.text} {_BEYOND_ASCII}", why="beyond ASCII (made)")
    if not counts["control tokens"] and controls:
        yield replace(first, text=f"{first.text} {' '.join(controls[:4])} end", why="control tokens (made)")
    words = sorted(own_words(encoder.tokenizer))
    if words and not counts["added tokens"]:
        text = f"{first.text} {' '.join(words[:4])} end{words[0]}"
        yield replace(first, text=text, why="added tokens (made)")
    if not any(one.why == "truncated" for one in found):
        times = 2 + encoder.max_length // max(1, len(first.text.split()))
        yield replace(first, text=" ".join([first.text or "A text."] * times)[:_LONGEST_TEXT], why="truncated (made)")
    for number in range(len(found), NUM_EXAMPLES):
        yield replace(first, text=f"{number}. {first.text}", why="spread (made)")


def encoded(examples: Sequence[Example], task: Task, encoder: Any) -> list[list[Encoded]]:
    """The rows of each example as prediction makes them; a masked model's get a mask to fill."""
    rows: list[list[Encoded]] = []
    for example in examples:
        made = task.encode([example], encoder)
        if made.rejected and encoder.tokenizer.mask_token:
            made = task.encode([replace(example, text=f"{encoder.tokenizer.mask_token} {example.text}")], encoder)
        rows.append([made[number] for number in range(min(len(made), _MOST_ROWS))])
    return rows


def outputs_of(network: Any, row: Encoded, task: Task, encoder: Any) -> np.ndarray:
    """What the network says about one row alone: float32, an even selection where there is much of it."""
    import torch

    batch: Batch = task.collate_inputs([row], encoder)
    device = next(network.parameters()).device
    with torch.inference_mode():
        output = network(**{name: value.to(device) for name, value in batch.inputs.items()})
    return selected(next(getattr(output, name) for name in _LOGITS if hasattr(output, name)).float().cpu().numpy()[0])


def selected(logits: np.ndarray) -> np.ndarray:
    """At most `_MOST_OUTPUTS` values of `(labels,)` or `(length, labels)`: evenly spread over positions and columns."""
    table = np.atleast_2d(logits)
    num_columns = table.shape[1] if table.shape[1] <= _MOST_LABELS else 64
    columns = np.unique(np.linspace(0, table.shape[1] - 1, num_columns).astype(int))
    places = np.unique(
        np.linspace(0, len(table) - 1, min(len(table), max(1, _MOST_OUTPUTS // len(columns)))).astype(int)
    )
    return table[np.ix_(places, columns)].astype(np.float32).reshape(-1)


def record(texts: Sequence[GoldenText], network: Any, task: Task, encoder: Any) -> dict[str, Any]:
    """golden.json: ids, types and outputs of every example, and what must not change around them."""
    was_training = network.training
    network.eval()
    examples = []
    for one, rows in zip(texts, encoded([text.example for text in texts], task, encoder), strict=True):
        written = [
            {
                "input_ids": row.input_ids.tolist(),
                "token_type_ids": None if row.token_type_ids is None else row.token_type_ids.tolist(),
                "outputs": [float(f"{value:.9g}") for value in outputs_of(network, row, task, encoder).tolist()],
            }
            for row in rows
        ]
        typed = _typed(one, rows, task, encoder) if rows else {}
        examples.append({"text": one.text, "pair": one.pair, "why": one.why, "rows": written, **typed})
    network.train(was_training)
    return {"schema": SCHEMA, **surroundings(task, encoder), "examples": examples}


def _typed(one: GoldenText, rows: Sequence[Encoded], task: Task, encoder: Any) -> dict[str, Any]:
    """What other programs are given, the ids they are to make of it, and why they may do otherwise (empty: they may not)."""
    typed = task.typed(one.example, encoder, rows[0].input_ids.tolist())
    otherwise = typed.otherwise
    if _spells_control(encoder.tokenizer, f"{one.text} {one.pair or ''}"):
        otherwise = "control tokens, which are text to us"
    elif len(rows) > 1:
        otherwise = otherwise or "a text of several rows"
    return {"typed": typed.text, "typed_ids": typed.ids, "otherwise": otherwise}


def _spells_control(tokenizer: Any, text: str) -> bool:
    """Does a text spell what is control to a tokenizer and text to us, as it stands or once it is normalized (`<|ENDOFTEXT|>`)?"""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    forms = (text, text if normalizer is None else normalizer.normalize_str(text))
    return any(token in form for token in _control(tokenizer) for form in forms)


def _control(tokenizer: Any) -> list[str]:
    return [token for token in {*control_tokens(tokenizer), *tokenizer.all_special_tokens} if len(token) > 1]


def surroundings(task: Task, encoder: Any) -> dict[str, Any]:
    """What the outputs mean and how text is framed: names in order, control tokens around a text, chat template, added tokens."""
    tokenizer = encoder.tokenizer
    added = {token: int(number) for token, number in tokenizer.get_added_vocab().items()}
    before, after = encoder.template
    return {
        "template": [list(before), list(after), task.chat_template],
        "added_tokens": dict(sorted(added.items())),
        "labels": list(task.output_names),
    }


def write(folder: Path, written: dict[str, Any]) -> None:
    """golden.json beside a saved model, with what a plain tokenizer makes of each text: whether it makes the same."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    chat = bool(written["template"][2])
    for example in written["examples"]:
        example["plain"] = plain_ids(tokenizer, example, chat=chat) == wanted_ids(example)
        alone = {**example, "typed": example["text"]}
        if not example["plain"] and plain_ids(tokenizer, alone, chat=chat) == wanted_ids(example):
            example |= {"typed": example["text"], "plain": True}  # a tokenizer that begins texts by itself
    write_json(folder / FILE, written)


def wanted_ids(example: Mapping[str, Any]) -> list[int] | None:
    """The ids that other programs are to make of an example."""
    if "typed_ids" in example:
        return list(example["typed_ids"])
    return example["rows"][0]["input_ids"] if example["rows"] else None


def must_be_plain(example: Mapping[str, Any]) -> bool:
    """Whether other programs have to make the same ids of an example: then a difference is a fault."""
    return bool(example["plain"]) or example.get("otherwise") == ""


def plain_ids(tokenizer: Any, example: Mapping[str, Any], *, chat: bool) -> list[int] | None:
    """Ids as a program that knows nothing of this package makes them: the tokenizer called, or its chat template applied."""
    text = example.get("typed", example["text"])
    try:
        if chat:
            turn = [{"role": "user", "content": text}]
            _require_bounded(tokenizer, text)
            return list(tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"])
        return list(tokenizer(text, example["pair"], truncation=True)["input_ids"])
    except Exception:  # a template may refuse what it was not written for, each in its own way
        return None


def _require_bounded(tokenizer: Any, text: str) -> None:
    """RowError where a tokenizer's template does not render a question within bounds: transformers knows none, and might never end."""
    template = Template(tokenizer.get_chat_template(), special_tokens(tokenizer))
    template.render(Conversation((Message(USER, text),)), prompt=True)


def read(folder: Path) -> dict[str, Any]:
    """The golden examples of a model folder. UserError where there are none."""
    path = folder / FILE
    found = read_object(path)
    if not found:
        raise UserError(
            "no golden examples here",
            where=str(folder),
            expected=FILE,
            hint="Runs keep them since they are verified; train again, or give the run with --golden.",
        )
    if found.get("schema") != SCHEMA:
        raise UserError("written by another version", where=str(path), found=f"schema {found.get('schema')}")
    if not _is_whole(found):
        raise UserError("not what was written", where=str(path), hint="Restore the file, or train again.")
    return found


def _is_whole(found: Mapping[str, Any]) -> bool:
    """Are all keys there that a comparison reads, each of its type?"""
    try:
        template, examples = found["template"], found["examples"]
        return (
            len(template) == 3
            and isinstance(found["added_tokens"], dict)
            and isinstance(found["labels"], list)
            and all(
                isinstance(one["text"], str)
                and isinstance(one["pair"], (str, type(None)))
                and isinstance(one["plain"], bool)
                and all(_is_row(row) for row in one["rows"])
                for one in examples
            )
        )
    except (KeyError, TypeError, IndexError):
        return False


def _is_row(row: Mapping[str, Any]) -> bool:
    return (
        all(isinstance(one, int) for one in row["input_ids"])
        and all(isinstance(one, int) for one in row["token_type_ids"] or ())
        and all(isinstance(one, (int, float)) for one in row["outputs"])
    )
