"""Supervised fine-tuning: answers are learned, prompts are read. Any format of conversation, any chat template.

    {"question": "What is a spline?", "answer": "A smooth curve."}
      -> Conversation((Message("user", "What is a spline?"), Message("assistant", "A smooth curve.")))
      -> <|im_start|>user What is a spline?<|im_end|> <|im_start|>assistant A smooth curve.<|im_end|>
                                                                            [     learned      ]
      -> Answer("A smooth curve.")

The template is saved with the model, in `tunewright.json` and as the tokenizer's own, so `pipeline("text-generation")` chats alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from tunewright.batching.padding import LONGEST, Padding
from tunewright.batching.store import SplitStore, TokenStore
from tunewright.chat.control_tokens import ControlTokens
from tunewright.chat.conversations import (
    ALPACA,
    LIKELY_PAIRS,
    MESSAGES,
    PAIR,
    PREFERRED,
    TEXT,
    Dialogues,
    find_dialogues,
)
from tunewright.chat.messages import ASSISTANT, Conversation, message_text, single_turn
from tunewright.chat.supervision import DROPPED, MERGED, REFUSE, Supervisor
from tunewright.chat.templates import Template, named, names, source_of, special_tokens
from tunewright.chat.transcripts import Marks, control_marks, headings, marks_of, recognized_marks
from tunewright.encoding.dialogue_rows import ANSWERS, ENDS_WITH, EVERYTHING, ChatRow, DialogueEncoder, unwrapped
from tunewright.encoding.rendered import begins_with_bos, control_tokens, end_token
from tunewright.errors import RowError, UserError, counted, quoted
from tunewright.metrics.intervals import language_intervals
from tunewright.metrics.language import language_scores
from tunewright.pretrained.architecture import kind_of
from tunewright.pretrained.model_files import ModelFolder
from tunewright.reading import Source
from tunewright.reading.columns import TextColumns
from tunewright.reading.detect import LONGEST_NAME, check_columns, is_label, peek, refuse_choices
from tunewright.reading.file_shapes import shape_of, with_shape
from tunewright.reading.names import LABEL_TIERS, NEVER, normalize_name, tier
from tunewright.reading.unlabelled import is_lone_text
from tunewright.records import IGNORED, Batch, Encoded, Example, Row, Typed
from tunewright.tasks import base
from tunewright.tasks.base import ExplainedRow, TaskOptions, Weights, explained_row
from tunewright.tokenization.added_tokens import missing_role, read_control_in_texts
from tunewright.tokenization.encoded_rows import EncodedRows
from tunewright.tokenization.encoder import TextEncoder, load_tokenizer

if TYPE_CHECKING:
    import torch

    from tunewright.generation.generate import Sampling
    from tunewright.generation.writer import Answers
    from tunewright.tasks.base import LossTerms

TERM = "cross_entropy"
_TOKENS_SHOWN = 8
"""Tokens shown on each side of where an answer begins."""
_SPELLED_SHARE = 0.2
"""Of the rows, those that must spell an end token before it is called a fault."""
_UNREAD = "unread "
_RECOGNIZED = ("question-answer", "alpaca")
"""Templates whose words are recognized in prompts that already carry them."""


class ConversationOptions(TaskOptions):
    """What every task that renders conversations reads."""

    template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Values handed to the template, such as enable_thinking: false."
    )
    too_long: Literal["truncate_prompt", "reject"] = Field(
        "truncate_prompt",
        description="Rows longer than max_length. truncate_prompt: the start of the prompt is cut where that suffices; reject: rejected.",
    )
    reasoning: Literal["keep", "drop", "refuse"] = Field(
        "refuse",
        description="What becomes of an answer's reasoning that the template leaves out. refuse: the row is rejected; keep: it is written before the "
        "answer, in <think>; drop: the answer is learned without it.",
    )
    strip_end_tokens: bool = Field(
        False,
        description="Remove end tokens that are spelled out at the end of answers (</s>, <|endoftext|>): each answer ends with the "
        "template's end token anyway.",
    )


class Options(ConversationOptions):
    reads = frozenset({"data.label", "data.weight", "evaluate.num_generated"})

    name: str = "sft"
    rendered: bool | None = Field(
        None,
        description="Texts are rendered conversations: control tokens in them are meant, and nothing is written around them. "
        "Detected by the control tokens of known chat templates when not given.",
    )
    supervise: Literal["answers", "last_answer", "everything"] = Field(
        "answers",
        description="What is learned: all answers, the last one, or every token (of plain texts it always is).",
    )
    template: str = Field(
        "auto",
        description="How conversations become text: alpaca, chatml, encoder, gemma, llama3, mistral, plain, question-answer, qwen3, or Jinja. "
        "auto: words that the prompts already carry, else the tokenizer's own, else alpaca for instructions, else plain.",
    )
    answers_after: str | None = Field(
        None,
        description="For texts that are rendered conversations: the text before each answer ('### Assistant:'), or the template they "
        "were written with (chatml, llama3, mistral, gemma, zephyr). Then only the answers are learned.",
    )
    answers_until: str | None = Field(
        None,
        description="With answers_after: the text before each question, where answers_after is not one of the usual headings.",
    )


@dataclass(frozen=True)
class Task(base.Task):
    """See `tasks.base.Task`. template: Jinja once settled, None for plain texts. end_ids: tokens that end an answer.

    transcript: what the texts carry before their answers, where they are conversations already: as `answers_after` names it.
    """

    dialogues: Dialogues
    template: str | None = "auto"
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    supervise: str = ANSWERS
    rendered: bool = False
    too_long: str = "truncate_prompt"
    num_generated: int = 32
    weight: str | None = None
    recognized: str | None = None
    end_ids: tuple[int, ...] = ()
    reasoning: str = REFUSE
    strip_end_tokens: bool = False
    answers_after: str | None = None
    answers_until: str | None = None
    transcript: str | None = None
    _encoders: dict[int, DialogueEncoder] = field(default_factory=dict, init=False, repr=False, compare=False)

    name = "sft"
    pipeline = "text-generation"
    first_model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    loss_terms = (TERM,)
    chats = True

    @property
    def chat_template(self) -> str | None:
        return self.template

    @property
    def columns(self) -> TextColumns:  # type: ignore[override]
        return TextColumns((self.dialogues.prompt,), None, self.dialogues.answer, self.weight)

    # Understanding rows

    @classmethod
    def matches(cls, config: Any, columns: Sequence[str], rows: Sequence[Row]) -> int:
        if config.data.pair or config.data.label is not None:  # columns of any names: then the task is named too
            return 0
        found = find_dialogues(columns, rows, text=None, label=None)
        if found is not None and found.format == TEXT:
            texts = [row.fields.get(found.prompt) for row in rows]
            return 2 * (bool(control_marks(texts) or headings(texts)) and is_lone_text(columns, rows))
        if found is None or found.format not in (MESSAGES, PAIR, ALPACA):
            return 0
        others = [name for name in columns if name not in (found.prompt, found.answer)]
        labelled = any(normalize_name(name) in ("label", "labels") for name in others)
        if (normalize_name(found.prompt), normalize_name(str(found.answer))) in LIKELY_PAIRS:
            labelled |= any(
                is_label([row.fields.get(name) for row in rows]) for name in others if normalize_name(name) not in NEVER
            )
        return 2 if found.format == MESSAGES or (not labelled and _are_answers(found, rows)) else 0

    @classmethod
    def from_columns(cls, config: Any, source: Source, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Task, str]:
        data, text = config.data, _named_text(config)
        check_columns(data, columns, where=source.name, keys=("text", "label", "weight", "group_by"))
        dialogues = find_dialogues(columns, rows, text=text, label=data.label)
        if dialogues is None:
            raise UserError(
                "no conversations found", where=source.name, found=quoted(columns),
                expected="messages, conversations, prompt and completion, question and answer, instruction and output, or text",
                hint="Set data.text to the column of prompts (or messages) and data.label to the one of answers.",
            )  # fmt: skip
        if text is None:
            refuse_choices(columns, dialogues.prompt, source.name)
        options = config.task if isinstance(config.task, Options) else Options()
        if options.rendered and dialogues.format != TEXT:
            raise UserError(
                "only a column of rendered texts can be used without a template", where="task.rendered", found=dialogues.format,
                hint="Name the column: data.text.",
            )  # fmt: skip
        plain = dialogues.format == TEXT
        _check_answers_after(options, dialogues)
        texts = [row.fields.get(dialogues.prompt) for row in rows] if plain else []
        marked, carried = control_marks(texts), recognized_marks(texts)
        rendered = marked is not None if options.rendered is None else options.rendered
        recognized = None if plain or options.template != "auto" else _recognized(dialogues, rows)
        task = cls(
            dialogues, None if plain else options.template, dict(options.template_kwargs),
            EVERYTHING if plain and options.answers_after is None else options.supervise, rendered, options.too_long, config.evaluate.num_generated,
            data.weight, recognized,
            reasoning=options.reasoning, strip_end_tokens=options.strip_end_tokens,
            answers_after=options.answers_after, answers_until=options.answers_until, transcript=None if carried is None else carried.name,
        )  # fmt: skip
        marks = f"; it carries the control tokens of {marked}: task.rendered=true" if rendered and marked else ""
        return task, task._reason() + marks

    def _reason(self) -> str:
        columns = ", ".join(f"{role} {column!r}" for role, column in self.dialogues.columns.items())
        carried = f"; its prompts carry the words of the template {self.recognized}" if self.recognized else ""
        whole = ""
        if self.dialogues.format == TEXT:
            whole = "; plain text, trained on every token"
            if self.answers_after is not None:
                whole = f"; rendered text, trained on the answers that follow {self.answers_after!r}"
        return f"{columns} by name and content{carried}{whole}"

    def with_labels(self, counts: Mapping[str, int], model: ModelFolder, *, where: str, writes: bool = True) -> Task:
        """The template chosen, and shown to say where answers end. writes: the model is to answer, not only to judge answers."""
        if writes and kind_of(model) == "encoder":
            raise UserError(
                "an encoder reads both ways and cannot write answers",
                where=f"model {model.name}",
                hint="Choose a decoder (GPT, Llama, Qwen, scratch:llama-mini).",
            )
        tokenizer = load_tokenizer(model)
        eos = tokenizer.eos_token_id
        if self.template is None:
            end = self._marks.end if self._marks is not None else None
            known = [end] if end in control_tokens(tokenizer) else []
            ids = [tokenizer.convert_tokens_to_ids(token) for token in (*known, end_token(tokenizer))]
            return replace(self, end_ids=tuple(dict.fromkeys(ids)))
        if eos is None and "eos_token" in self._source(tokenizer):
            problem = "the template ends answers with the end token, and the tokenizer names none"
            raise missing_role(tokenizer, "eos", problem, where=f"model {model.name}")
        template = self._resolved(tokenizer)
        try:
            control = ControlTokens(list(control_tokens(tokenizer, template.own_text())))
            stops = Supervisor(template, control).endings.stops
        except RowError as error:
            raise UserError(error.reason, where="task.template", hint="Choose another: chatml, plain, …") from None
        ends = [*tokenizer.convert_tokens_to_ids(list(stops)), *([] if eos is None else [eos])]
        return replace(self, template=template.source, end_ids=tuple(dict.fromkeys(ends)))

    def _resolved(self, tokenizer: Any) -> Template:
        """The template in force, with the BOS token where the tokenizer would have written it."""
        template = Template(self._source(tokenizer), special_tokens(tokenizer), self.template_kwargs)
        try:
            return template.beginning_with("bos_token") if begins_with_bos(tokenizer) else template
        except RowError as error:
            raise UserError(error.reason, where="task.template", hint="Choose another: chatml, plain, …") from None

    def _source(self, tokenizer: Any) -> str:
        if self.template not in (None, "auto"):
            return source_of(str(self.template))
        if self.recognized:
            return named(self.recognized)
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        if own:
            return str(own)
        if tokenizer.eos_token is None and tokenizer.cls_token and tokenizer.sep_token:
            return named("encoder")  # BERT's tokens end nothing but parts
        return named("alpaca" if self.dialogues.is_instruction else "plain")

    def settings(self) -> dict[str, Any]:
        named_columns = {"text": self.dialogues.prompt, "label": self.dialogues.answer}
        values = (
            {}
            if self.dialogues.format in (ALPACA, PREFERRED)
            else {key: name for key, name in named_columns.items() if name}
        )
        return {**values, "on_bad_rows": "skip"}

    def describe(self) -> dict[str, str]:
        return {**self.dialogues.columns, "supervise": self.supervise}

    @property
    def read_columns(self) -> tuple[str, ...]:
        return self.dialogues.read_columns

    def answer_shown(self, split: SplitStore, encoder: TextEncoder) -> str | None:
        if self.supervise == EVERYTHING or not len(split):
            return None
        ids = split.input_ids(0)
        return answer_begins(ids, _inside(split.lists("learned", np.array([0]))[0], len(ids)), encoder)

    def aligned(self, source: Source, *, labelled: bool = True) -> Source:
        """Another file, read by its own shape where it has not the columns of the first. UserError for texts among conversations."""
        rows, columns = peek(source)
        needed = [self.dialogues.prompt, *([self.dialogues.answer] if labelled and self.dialogues.answer else [])]
        if not rows or not columns or set(needed) <= set(columns):
            return source
        found = find_dialogues(columns, rows)
        if found is None or found == self.dialogues:
            return source
        if (found.format == TEXT) != (self.dialogues.format == TEXT):
            if not labelled:
                return source
            raise UserError(
                "plain texts and conversations cannot be learned together", where=source.name, found=quoted(columns),
                expected=f"a file like the first one ({', '.join(self.dialogues.columns.values())})", hint="Train on them in turn.",
            )  # fmt: skip
        return with_shape(source, found, found.columns)

    def to_example(self, row: Row) -> Example:
        row, dialogues = shape_of(row, self.dialogues)
        return self._example(dialogues.for_training(row), self.columns.weight_of(row))

    def to_input(self, row: Row) -> Example:
        row, dialogues = shape_of(row, self.dialogues)
        return self._example(dialogues.for_generation(row))

    def _example(self, found: Conversation, weight: float = 1.0) -> Example:
        text = "\n".join(message_text(one) for one in found.messages)
        return Example(text, target=found, weight=weight, group=found.prompt or None)

    def duplicate_key(self, example: Example) -> str:
        return json.dumps(asdict(replace(example.target, unread=())), sort_keys=True, default=str)

    def display_target(self, example: Example) -> Any:
        return [f"{one.role}: {message_text(one)}" for one in example.target.messages] if example.target else None

    def data_warnings(self, store: TokenStore) -> list[str]:
        trimmed = sum(int((store[split].array("num_trimmed") > 0).sum()) for split in store.splits)
        cut = sum(int((store[split].num_cut > 0).sum()) for split in store.splits)
        return [
            *told_of(store),
            *(
                [f"{counted(trimmed, 'row')} with turns after the last answer: these turns are left out."]
                if trimmed
                else []
            ),
            *(
                [f"{counted(cut, 'row')} too long: the start of the prompt is cut, the answers are whole."]
                if cut
                else []
            ),
        ]

    def findings(self, store: TokenStore) -> list[str]:
        whole = self.transcript is not None and self.answers_after is None
        return [*([whole_transcripts(str(self.transcript), "task.answers_after")] if whole else []), *ends_found(store)]

    @property
    def _marks(self) -> Marks | None:
        return None if self.answers_after is None else marks_of(self.answers_after, self.answers_until)

    # Tokens and batches

    def dialogue_encoder(self, encoder: TextEncoder) -> DialogueEncoder:
        key = id(encoder.tokenizer)
        if key not in self._encoders:
            self._encoders[key] = DialogueEncoder.of(
                encoder, self._settled_source(encoder), dict(self.template_kwargs), supervise=self.supervise,
                trusted=self.rendered, cuts_prompts=self.too_long == "truncate_prompt", reasoning=self.reasoning,
                strips_ends=self.strip_end_tokens, marks=self._marks,
            )  # fmt: skip
        return self._encoders[key]

    def _settled_source(self, encoder: TextEncoder) -> str | None:
        """The template, also of a task that has not seen all rows yet (`explain`)."""
        settled = self.template is None or bool(self.end_ids)
        return self.template if settled else self._resolved(encoder.tokenizer).source

    def encode(self, examples: Sequence[Example], encoder: TextEncoder) -> EncodedRows:
        """Conversations that end with an answer as rows to learn from, others as prompts."""
        chats = self.dialogue_encoder(encoder)
        found = [example.target or single_turn(example.text, None) for example in examples]
        learned = [one.messages[-1].role == ASSISTANT for one in found]
        rows: list[ChatRow | str] = list(
            chats.for_training([one for one, yes in zip(found, learned, strict=True) if yes])
        )
        asked = iter(chats.for_generation([one for one, yes in zip(found, learned, strict=True) if not yes], room=1))
        taught = iter(rows)
        rows = [next(taught) if yes else next(asked) for yes in learned]
        good = [number for number, row in enumerate(rows) if not isinstance(row, str)]
        kept = [row for row in rows if not isinstance(row, str)]
        return EncodedRows.of(
            [Encoded(row.ids, num_cut=row.num_cut) for row in kept],
            example=good,
            num_supervised=[row.num_supervised for row in kept],
            values={
                "learned": [[place for span in row.learned for place in span] for row in kept],
                "answer": [row.answer for row in kept],
                "num_trimmed": [found[number].num_trimmed for number in good],
                "told": [facts_of(found[number], row.notes) for number, row in zip(good, kept, strict=True)],
            },
            rejected={number: row for number, row in enumerate(rows) if isinstance(row, str)},
        )

    def display_tokens(self, example: Example, encoder: TextEncoder) -> list[ExplainedRow]:
        encoded = self.encode([example], encoder)
        if encoded.rejected:
            raise RowError(encoded.rejected[0])
        row = encoded[0]
        shown = explained_row(row, encoder)
        learned = row.values["learned"] if row.values else []
        inside = _inside(learned, len(row.input_ids))
        for token, yes in zip(shown.tokens, inside, strict=True):
            token["supervised"] = bool(yes)
        return [shown]

    def gives_type_ids(self, encoder: TextEncoder) -> bool:
        return False

    def label_schema(self) -> dict[str, Any]:
        import pyarrow as pa

        return {
            "learned": pa.list_(pa.int32()),
            "answer": pa.list_(pa.int32()),
            "num_trimmed": pa.int32(),
            "told": pa.string(),
        }

    def collate(
        self, split: SplitStore, positions: np.ndarray, encoder: TextEncoder, padding: Padding = LONGEST
    ) -> Batch:
        """targets: `labels`, as transformers shifts them itself: a token's own id where it is learned, by position."""
        from tunewright.batching.micro_batches import pad

        rows = [split.encoded(int(position)) for position in positions]
        batch = self.collate_inputs(rows, encoder, padding)
        labels = [
            np.where(_inside(learned, len(row.input_ids)), row.input_ids, IGNORED)
            for row, learned in zip(rows, split.lists("learned", positions), strict=True)
        ]
        left = encoder.padding_side == "left"
        padded = pad(labels, value=IGNORED, width=batch.width, left=left)
        return replace(batch, targets={"labels": padded}, row_ids=split.keys[positions])

    # Learning

    def build_model(self, source: ModelFolder, *, seed: int, dtype: torch.dtype | str) -> tuple[Any, list[str]]:
        from transformers import AutoModelForCausalLM

        from tunewright.models.loading import load_pretrained

        model, fresh = load_pretrained(AutoModelForCausalLM, source, seed=seed, dtype=dtype)
        generation: Any = model.generation_config
        generation.eos_token_id = list(self.end_ids)
        return model, fresh

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """Chats are rendered as in training. Control tokens stay control: what is handed to it is already rendered."""
        read_control_in_texts(tokenizer)
        if self.template is not None:
            tokenizer.chat_template = self.template

    def typed(self, example: Example, encoder: TextEncoder, ids: list[int]) -> Typed:
        """A question is rendered by the saved template, which knows nothing of `task.template_kwargs` and of a prompt that is cut."""
        supervisor = self.dialogue_encoder(encoder).supervisor
        if supervisor is None:
            return Typed(example.text, ids, "a text that no template surrounds")
        pieces = [piece.strip() for piece in supervisor.prompt_pieces()]
        if any(piece in example.text for piece in pieces if piece):
            return Typed(example.text, ids, "the template's own words in it")
        cut = "a prompt that is cut" if len(ids) >= encoder.max_length - 1 else ""
        return Typed(example.text, ids, "template_kwargs" if self.template_kwargs else cut)

    def loss(self, model: Any, batch: Batch, *, weights: torch.Tensor | None = None) -> tuple[LossTerms, torch.Tensor]:
        """Sum over learned tokens; the second value holds nats and tokens of each row, `(rows, 2)`."""
        from torch.nn import functional

        from tunewright.losses.language import labelled_loss

        next_BL = functional.pad(batch.host_targets["labels"][:, 1:], (0, 1), value=IGNORED)
        done = labelled_loss(model, {**batch.inputs, "use_cache": False}, next_BL, weights_B=weights)
        return {TERM: (done.total, done.weight)}, done.rows_B2

    def weights(self, split: SplitStore) -> Weights:
        rows = split.weights.astype(np.float64)
        return Weights(rows, {TERM: rows * split.array("num_supervised")})

    # Writing answers

    generates_text = True
    sampling_defaults = {"temperature": 0.0, "max_new_tokens": 512}  # noqa: RUF012

    def decode(self, example: Example, rows: Sequence[Encoded], scores: Sequence[Any]) -> Any:
        raise NotImplementedError("a writer completes the text")

    def writer(self, model: Any, encoder: TextEncoder, sampling: Sampling) -> Answers:
        from tunewright.generation.answers import AnswerWriter

        return AnswerWriter(model, encoder, sampling, self.dialogue_encoder(encoder), frozenset(self.end_ids))

    def generation_metrics(self, model: Any, split: SplitStore, encoder: TextEncoder) -> dict[str, Any]:
        """See `evaluation.evaluate_split`: scores of answers that the model writes to some of the prompts."""
        from tunewright.generation.answers import generation_metrics

        return generation_metrics(
            model, split, encoder, end_ids=frozenset(self.end_ids), num_generated=self.num_generated
        )

    # Scores

    def scores(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """float64 `(rows, 2)`: nats and number of learned tokens."""
        return np.stack(outputs).astype(np.float64)

    def metrics(self, scores: np.ndarray, split: SplitStore, *, intervals: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = {"metrics": language_scores(*scores.T), "tokens": int(scores[:, 1].sum())}
        if intervals:
            result["intervals"] = language_intervals(*scores.T, seed=0)
        return result

    def metric_names(self) -> list[str]:
        return ["loss", "perplexity"]


def answer_begins(ids: np.ndarray, learned: np.ndarray, encoder: TextEncoder) -> str | None:
    """`'<|im_start|>assistant\n' | 'A smooth curve.'`: the last tokens of the prompt and the first ones of the answer."""
    if not learned.any():
        return None
    first = int(np.argmax(learned))
    before, after = (
        encoder.tokenizer.decode(ids[part].tolist(), skip_special_tokens=False)
        for part in (slice(max(0, first - _TOKENS_SHOWN), first), slice(first, first + _TOKENS_SHOWN))
    )
    return f"{before!r} | {after!r}"


def whole_transcripts(mark: str, key: str) -> str:
    """The warning that a run trains on whole conversations."""
    return (
        f"the texts are conversations (each answer follows a marker of {mark!r}), and the loss counts every token, also those of the "
        f"questions. To train on the answers only, set {key}={mark!r}."
    )


def _check_answers_after(options: Options, dialogues: Dialogues) -> None:
    if dialogues.format != TEXT and options.answers_after is not None:
        raise UserError(
            "answers_after works only with a column of texts", where="task.answers_after",
            found=dialogues.format, hint="Leave it out: here the columns say what the answers are.",
        )  # fmt: skip
    if options.answers_until is not None and options.answers_after is None:
        raise UserError(
            "it ends the answers of task.answers_after", where="task.answers_until", hint="Set task.answers_after too."
        )


def facts_of(found: Conversation, told: Sequence[str]) -> str:
    """What is to be said of a row, for the store: one fact a line."""
    return "\n".join((*told, *(_UNREAD + key for key in found.unread)))


def ends_found(store: TokenStore) -> list[str]:
    """What to do where answers spell the end token."""
    rows, facts = sum(len(store[split]) for split in store.splits), _facts_in(store)
    found = {fact.removeprefix(ENDS_WITH): count for fact, count in facts.items() if fact.startswith(ENDS_WITH)}
    return [
        f"{'every answer ends' if count >= rows else f'{count:,} of {rows:,} rows have answers that end'} with the text {token!r}, which is "
        "learned as text. task.strip_end_tokens=true takes it away; the rows are ended all the same."
        for token, count in sorted(found.items())
        if count >= _SPELLED_SHARE * rows
    ]


def _facts_in(store: TokenStore) -> Counter[str]:
    """Fact -> rows of which it is told."""
    import pyarrow.compute as pc

    facts: Counter[str] = Counter()
    for split in store.splits:
        for one in pc.value_counts(store[split].column("told")).to_pylist():
            facts.update({fact: one["counts"] for fact in (one["values"] or "").split("\n") if fact})
    return facts


def told_of(store: TokenStore) -> list[str]:
    """What the facts of all rows come to, for people."""
    facts = _facts_in(store)
    unread = {fact.removeprefix(_UNREAD): count for fact, count in facts.items() if fact.startswith(_UNREAD)}
    said = []
    if DROPPED in facts:
        said.append(
            f"{counted(facts[DROPPED], 'row')} whose reasoning the template leaves out: task.reasoning=drop learns the answers without it."
        )
    if MERGED in facts:
        said.append(f"{counted(facts[MERGED], 'row')} with turns of one role that the template writes as one.")
    if unread:
        named = ", ".join(f"{key!r} ({counted(count, 'row')})" for key, count in sorted(unread.items()))
        said.append(f"Keys of turns that are not read: {named}.")
    return said


def _inside(learned: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
    """bool `(length,)`. [2 4] of 5 -> [0 0 1 1 0]"""
    inside = np.zeros(length, dtype=bool)
    for begin, end in zip(learned[::2], learned[1::2], strict=True):
        inside[int(begin) : int(end)] = True
    return inside


def _are_answers(found: Dialogues, rows: Sequence[Row]) -> bool:
    """Texts or turns: answers of true and false, or numbers, are labels, and so is a `target` of few values or of single words."""
    said = [row.fields.get(str(found.answer)) for row in rows]
    likely = (normalize_name(found.prompt), normalize_name(str(found.answer))) in LIKELY_PAIRS
    if likely or tier(LABEL_TIERS, str(found.answer)) is not None:
        several_words = sum(isinstance(one, str) and (len(one.split()) > 1 or len(one) > LONGEST_NAME) for one in said)
        if len({str(one) for one in said}) <= len(said) / 2 or several_words < len(said) / 2:
            return False
    return any(isinstance(one, (str, list, dict)) for one in said)


def _named_text(config: Any) -> str | None:
    text: str | list[str] | None = config.data.text
    if isinstance(text, list):
        raise UserError(
            "a conversation is in one column, or in one of prompts and one of answers", where="data.text",
            found=quoted(text), hint="Name one column.",
        )  # fmt: skip
    return text


def _recognized(dialogues: Dialogues, rows: Sequence[Row]) -> str | None:
    """The shipped template whose words all these prompts already carry."""
    if dialogues.format not in (PAIR, ALPACA) or not rows:
        return None
    prompts = [row.fields.get(dialogues.prompt) for row in rows]
    for name in (name for name in _RECOGNIZED if name in names()):
        before, behind = Supervisor(Template(named(name)), ControlTokens([])).prompt_pieces()
        if all(isinstance(one, str) and unwrapped(one, before, behind) is not None for one in prompts):
            return name
    return None
