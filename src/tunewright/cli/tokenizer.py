"""tunewright tokenizer show TEXT | compare FILE | train FILE: inspect tokenizers, compare them on data, train one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tunewright import hints
from tunewright.cli.options import Json, json_text, say

NAME = "tokenizer"

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Inspect tokenizers, compare them on your data, or train one."
)

Column = Annotated[
    str | None, typer.Option("--text", help="Text column, or several joined by commas. Default: detected.")
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…", help="Data files, a `datasets` folder, or hub:owner/name. In plain text each line is a text."
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
    text: Annotated[str, typer.Argument(help="The text. Special tokens typed here stay text.")],
    model: Annotated[list[str], typer.Option("--model", help=f"{_MODEL_HELP} May be repeated.")],
    pair: Annotated[str | None, typer.Option("--pair", help="A second text.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Maximum row length in tokens. Default: the model's, at most 512.")
    ] = None,
    padding: Annotated[str, typer.Option("--padding", help="longest (none for a single text) or max_length.")] = "longest",
    padding_side: Annotated[str, typer.Option("--padding-side", help="auto (as the tokenizer does), right or left.")] = "auto",
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

    with _option_names():
        shown = [
            show(
                source, text, pair, max_length=max_length or "auto", padding=padding, padding_side=padding_side,
                truncation_side=truncation_side,
            )
            for source in [tokenizer_source(name) for name in model]
        ]  # fmt: skip
    if as_json:
        print(json_text({"schema": 1, "text": text, "pair": pair, "models": [one.as_dict() for one in shown]}))
        return
    from tunewright.cli.tokenizer_tables import print_shown

    print_shown(shown)


@app.command("compare", cls=_SeveralModels)
def compare_models(
    files: Files,
    models: Annotated[list[str], typer.Option("--models", metavar="MODEL…", help=f"{_MODEL_HELP} One or more.")],
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Length at which rows are cut. Default: each model's, at most 512.")
    ] = None,
    text: Column = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")] = Path("compare.html"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare tokenizers on your texts: tokens per word, lost characters, row lengths, speed."""
    from tunewright.pretrained.model_files import tokenizer_source
    from tunewright.tokenizer_tools.corpus import Corpus

    sources = [tokenizer_source(name) for name in models]
    corpus = Corpus.open(files, text=text)
    say(f"columns   {corpus.described_columns}")
    from tunewright.tokenizer_tools.compare import compare
    from tunewright.tokenizer_tools.compare_page import page

    with _option_names():
        comparison = compare(corpus, sources, max_length=max_length or "auto")
    _write(output, page(comparison))
    if as_json:
        print(json_text({"schema": 1, **comparison.as_dict()}))
        return
    from tunewright.cli.tokenizer_tables import print_comparison

    print_comparison(comparison)
    say(f"page      {output}")


@app.command("train")
def train_tokenizer(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="bpe, byte-bpe, wordpiece, unigram, word or char.")
    ] = "byte-bpe",
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", min=1, help="Entries of the vocabulary, special tokens included.")
    ] = 8_000,
    template: Annotated[
        str | None,
        typer.Option("--template", help="bert: [CLS] text [SEP]; gpt: only the text, <|endoftext|> between documents. "
                     "Default: gpt for bpe and byte-bpe, bert for the others."),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", help="A further special token, or role=token to set that of a role (pad, unk, cls, sep, mask, bos, eos). May be repeated."),
    ] = None,
    normalizer: Annotated[
        list[str] | None,
        typer.Option("--normalizer", help="nfc, nfd, nfkc, nfkd, lowercase, strip-accents, bert (cleaning), none. May be "
                     "repeated, applied in order. Default: bert for wordpiece and word, none for the others."),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Short for --normalizer lowercase.")] = False,
    pre_tokenizer: Annotated[
        list[str] | None,
        typer.Option("--pre-tokenizer", help="How texts are split into words: bert, whitespace, punctuation, digits, metaspace, gpt2 "
                     "(byte-bpe), none. May be repeated, applied in order. Default: metaspace for bpe and unigram, gpt2 for byte-bpe, bert for "
                     "wordpiece and word."),
    ] = None,
    min_frequency: Annotated[
        int | None, typer.Option("--min-frequency", min=1, help="Minimum count of a piece in the texts. Default: 2; for word and char 1.")
    ] = None,
    text: Column = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a tokenizer on texts and save it in Hugging Face layout, for `model.tokenizer` and AutoTokenizer."""
    from tunewright.tokenizer_tools.recipe import Recipe

    recipe = Recipe(
        algorithm=algorithm, vocab_size=vocab_size, template=template, special=tuple(special or ()),
        normalizers=(*(normalizer or ()), *(["lowercase"] if lowercase else [])), splits=tuple(pre_tokenizer or ()),
        min_count=min_frequency,
    )  # fmt: skip
    recipe.resolved()
    from tunewright.tokenizer_tools.corpus import Corpus
    from tunewright.tokenizer_tools.train import learn, refuse_other_files, save

    refuse_other_files(output)
    corpus = Corpus.open(files, text=text)
    say(f"columns   {corpus.described_columns}")
    learned = learn(corpus, recipe)
    save(learned, output)
    for note in learned.notes:
        say(note)
    if as_json:
        facts = {"vocab_size": learned.vocab_size, "texts": learned.num_texts, "notes": learned.notes}
        print(json_text({"schema": 1, "output": str(output), **facts}))
        return
    print(f"Trained {learned.vocab_size:,} entries on {learned.num_texts:,} texts: {output}")
    print(f"try it   {hints.tokenizer_show(output)}")


@contextmanager
def _option_names() -> Iterator[None]:
    """Errors about a config key name the option of this command instead."""
    from tunewright.errors import UserError

    try:
        yield
    except UserError as error:
        raise error.rephrased(lambda text: text.replace("data.max_length", "--max-length")) from None


def _write(path: Path, text: str) -> None:
    from tunewright.errors import UserError
    from tunewright.files.atomic import write_whole

    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_text(text, encoding="utf-8")  # /dev/stdout and the like cannot be replaced
        else:
            write_whole(path, text)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", where=f"--output {path}", hint="Choose another file."
        ) from None
