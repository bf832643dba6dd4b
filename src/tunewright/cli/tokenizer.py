"""tunewright tokenizer show TEXT | compare FILE | train FILE: tokenizers looked at, compared on data, and learned."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tunewright import hints

NAME = "tokenizer"
HELP = "Look at tokenizers, compare them on your data, or learn one."

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Column = Annotated[
    str | None, typer.Option("--text", help="Text column, several joined by commas. Found when not given.")
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…", help="Any readable file, a `datasets` folder, or hub:owner/name. Plain text: a line is a text."
    ),
]
_MODEL_HELP = "A folder with a model or a tokenizer, package:NAME, or a Hub id."


class _SeveralModels(TyperCommand):
    """`--models A B C` is `--models A --models B --models C`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        inside = False
        for word in args:
            if word.startswith("-"):
                inside = word == "--models"
                spread += [] if inside else [word]
            else:
                spread += ["--models", word] if inside else [word]
        return super().parse_args(ctx, spread)


@app.command("show")
def show_text(
    text: Annotated[str, typer.Argument(help="The text, as it is: special tokens typed here stay text.")],
    model: Annotated[list[str], typer.Option("--model", help=f"{_MODEL_HELP} May be given several times.")],
    pair: Annotated[str | None, typer.Option("--pair", help="A second text.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Longest row in tokens. Default: what the model takes, at most 512.")
    ] = None,
    padding: Annotated[str, typer.Option("--padding", help="longest (of one text: none) or max_length.")] = "longest",
    padding_side: Annotated[str, typer.Option("--padding-side", help="auto (the tokenizer's own), right or left.")] = "auto",
    truncation_side: Annotated[str, typer.Option("--truncation-side", help="right or left.")] = "right",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show a text as tokens: ids, offsets, words, attention mask, token types, what is cut, and what decoding gives."""
    from tunewright.errors import check_choice

    check_choice("--padding", padding, ("longest", "max_length"))
    check_choice("--padding-side", padding_side, ("auto", "right", "left"))
    check_choice("--truncation-side", truncation_side, ("right", "left"))
    from tunewright.pretrained.model_files import tokenizer_source
    from tunewright.tokenizer_tools.show import show

    with _own_words():
        shown = [
            show(
                source, text, pair, max_length=max_length or "auto", padding=padding, padding_side=padding_side,
                truncation_side=truncation_side,
            )
            for source in [tokenizer_source(name) for name in model]
        ]  # fmt: skip
    if as_json:
        _print_json({"text": text, "pair": pair, "models": [one.as_dict() for one in shown]})
        return
    from tunewright.cli.tokenizer_tables import print_shown

    print_shown(shown)


@app.command("compare", cls=_SeveralModels)
def compare_models(
    files: Files,
    models: Annotated[list[str], typer.Option("--models", metavar="MODEL…", help=f"{_MODEL_HELP} One or more.")],
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Where rows are cut. Default: what each model takes, at most 512.")
    ] = None,
    text: Column = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page that is written.")] = Path("compare.html"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare tokenizers on your texts: how finely they cut, what they lose, how long rows become, how fast they are."""
    from tunewright.pretrained.model_files import tokenizer_source
    from tunewright.tokenizer_tools.corpus import Corpus

    sources = [tokenizer_source(name) for name in models]
    corpus = Corpus.open(files, text=text)
    print(f"columns   {corpus.told_columns}", file=sys.stderr)
    from tunewright.tokenizer_tools.compare import compare
    from tunewright.tokenizer_tools.compare_page import page

    with _own_words():
        comparison = compare(corpus, sources, max_length=max_length or "auto")
    _write(output, page(comparison))
    if as_json:
        _print_json(comparison.as_dict())
        return
    from tunewright.cli.tokenizer_tables import print_comparison

    print_comparison(comparison)
    print(f"page      {output}", file=sys.stderr)


@app.command("train")
def train_tokenizer(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that is written.")],
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="bpe, byte-bpe, wordpiece, unigram, word or char.")
    ] = "byte-bpe",
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", min=1, help="Entries of the vocabulary, special tokens included.")
    ] = 8_000,
    template: Annotated[
        str | None,
        typer.Option("--template", help="bert: [CLS] text [SEP]; gpt: the text alone, <|endoftext|> between documents. "
                     "Default: gpt for bpe and byte-bpe, bert for the others."),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", help="One more special token, or role=token to name the one of a role (pad, unk, cls, sep, mask, bos, eos); several."),
    ] = None,
    normalizer: Annotated[
        list[str] | None,
        typer.Option("--normalizer", help="nfc, nfd, nfkc, nfkd, lowercase, strip-accents, bert (cleaning), none; several in "
                     "turn. Default: bert for wordpiece and word, none for the others."),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="The same as one more --normalizer lowercase.")] = False,
    pre_tokenizer: Annotated[
        list[str] | None,
        typer.Option("--pre-tokenizer", help="Where words are split: bert, whitespace, punctuation, digits, metaspace, gpt2 "
                     "(byte-bpe), none; several in turn. Default: metaspace for bpe and unigram, gpt2 for byte-bpe, bert for "
                     "wordpiece and word."),
    ] = None,
    min_frequency: Annotated[
        int | None, typer.Option("--min-frequency", min=1, help="Pieces seen less often are not learned. Default: 2; for word and char 1.")
    ] = None,
    text: Column = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Learn a tokenizer from texts and write it in Hugging Face layout, for `model.tokenizer` and AutoTokenizer."""
    from tunewright.tokenizer_tools.recipe import Recipe

    recipe = Recipe(
        algorithm=algorithm, vocab_size=vocab_size, template=template, special=tuple(special or ()),
        normalizers=(*(normalizer or ()), *(["lowercase"] if lowercase else [])), splits=tuple(pre_tokenizer or ()),
        min_count=min_frequency,
    )  # fmt: skip
    recipe.settled()
    _refuse_output(output)
    from tunewright.tokenizer_tools.corpus import Corpus
    from tunewright.tokenizer_tools.train import learn, save

    corpus = Corpus.open(files, text=text)
    print(f"columns   {corpus.told_columns}", file=sys.stderr)
    learned = learn(corpus, recipe)
    save(learned, output)
    for note in learned.notes:
        print(note, file=sys.stderr)
    if as_json:
        _print_json(
            {
                "output": str(output),
                "vocab_size": learned.vocab_size,
                "texts": learned.num_texts,
                "notes": learned.notes,
            }
        )
        return
    print(f"{learned.vocab_size:,} entries, learned from {learned.num_texts:,} texts: {output}")
    print(f"look at it   {hints.tokenizer_show(output)}")


@contextmanager
def _own_words() -> Iterator[None]:
    """Errors about a config key, said with the option that stands for it here."""
    from tunewright.errors import UserError

    try:
        yield
    except UserError as error:
        parts = {name: getattr(error, name) for name in ("problem", "where", "found", "expected", "hint")}
        said = {name: value and value.replace("data.max_length", "--max-length") for name, value in parts.items()}
        raise UserError(said.pop("problem"), **said) from None


def _refuse_output(folder: Path) -> None:
    """Only an empty folder, or one with a tokenizer that was written here, is written to."""
    from tunewright.errors import UserError

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and {p.name for p in folder.iterdir()} - _OURS):
        raise UserError(
            "something else stands there", where=f"--output {folder}", expected="a new or empty folder",
            hint="Choose another folder.",
        )  # fmt: skip


_OURS = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


def _write(path: Path, text: str) -> None:
    from tunewright.errors import UserError
    from tunewright.files.atomic import write_whole

    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_text(text, encoding="utf-8")  # /dev/stdout and the like: nothing to replace
        else:
            write_whole(path, text)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", where=f"--output {path}", hint="Choose another file."
        ) from None


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps({"schema": 1, **values}, ensure_ascii=False))
