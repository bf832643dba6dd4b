"""Texts -> a new tokenizer: BPE (of characters or bytes), WordPiece, Unigram, whole words or characters.

    train_tokenizer(["reviews.csv"], "wordpiece", vocab_size=8000, output="my-tokenizer")

    learned = learn(corpus, Recipe(algorithm="wordpiece", vocab_size=8000))
    learned.vocab_size, learned.notes         8000, []
    save(learned, Path("my-tokenizer"))       AutoTokenizer.from_pretrained("my-tokenizer") opens it

The same texts give the same files: the library's WordPiece trainer numbers continuations (`##a`), and its Unigram trainer rare
characters, in the order of a randomly seeded hash table; here the first are numbered beforehand and the second sorted
afterwards. Texts are streamed: what is kept is a count of each distinct word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from tunewright.errors import UserError, quoted
from tunewright.files.atomic import whole_folder
from tunewright.reading import Readable, files_of
from tunewright.reporting.display import progress_shown
from tunewright.reporting.phases import phase
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.recipe import DEFAULT_SIZE, Algorithm, Recipe, split_characters

_ALPHABET_SHARE = 0.75
"""At most this share of the vocabulary is single characters: the rarest of many thousand are left unknown."""
_ALL = 10_000_000
_SCORE_DIGITS = 4
"""Unigram scores are rounded: sums of floats in another order differ in the eleventh digit."""
_PREFIX = "##"
_LONGEST_WORD = 100
_OWN_FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


@dataclass(frozen=True)
class Learned:
    """A tokenizer of the `tokenizers` library, its recipe, and what is to be said about it."""

    rust: Any
    recipe: Recipe
    num_texts: int
    num_rejected: int
    notes: list[str]

    @property
    def vocab_size(self) -> int:
        return self.rust.get_vocab_size()


def train_tokenizer(
    data: Readable, algorithm: Algorithm = "byte-bpe", *, output: str | Path, vocab_size: int = DEFAULT_SIZE, text: str | None = None,
    template: Literal["bert", "gpt"] | None = None, special: Sequence[str] = (), normalizers: Sequence[str] = (),
    pre_tokenizers: Sequence[str] = (), min_frequency: int | None = None, say: Callable[[str], object] = lambda _: None,
    progress: bool | None = None,
) -> Path:  # fmt: skip
    """Train a tokenizer on texts and write it in Hugging Face layout, for `model.tokenizer` and AutoTokenizer. Gives the folder.

    data: a path, a pattern, several paths, or rows in memory; text: the column, or several joined by commas. The other arguments are the
    options of `tunewright tokenizer train`. say: is told what else is worth knowing; progress: as for `train`. UserError for texts that
    cannot be read, for arguments that do not go together, and for a folder that holds other files.
    """
    with progress_shown(progress), _argument_names():
        recipe = Recipe(
            algorithm=algorithm, vocab_size=vocab_size, template=template, special=tuple(special), normalizers=tuple(normalizers),
            splits=tuple(pre_tokenizers), min_count=min_frequency,
        )  # fmt: skip
        recipe.resolved()
        folder = Path(output)
        refuse_other_files(folder)
        learned = learn(Corpus.open(files_of(data), text=text), recipe)
        save(learned, folder)
    for note in learned.notes:
        say(_as_arguments(note))
    return folder


@contextmanager
def _argument_names() -> Iterator[None]:
    """Errors that name an option of the command line name the argument of `train_tokenizer` instead."""
    try:
        yield
    except UserError as error:
        raise error.rephrased(_as_arguments) from None


def _as_arguments(text: str) -> str:
    """`Set --vocab-size 300` -> `Set vocab_size 300`."""
    several = text.replace("--normalizer", "--normalizers").replace("--pre-tokenizer", "--pre-tokenizers")
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda found: found[1].replace("-", "_"), several)


def refuse_other_files(folder: Path) -> None:
    """UserError unless the folder is new, empty, or holds only files of a tokenizer."""
    if folder.is_file() or (folder.is_dir() and {path.name for path in folder.iterdir()} - _OWN_FILES):
        raise UserError(
            "the output holds other files", where=f"--output {folder}", expected="a new or empty folder",
            hint="Choose another folder.",
        )  # fmt: skip


def learn(corpus: Corpus, recipe: Recipe) -> Learned:
    """Learn a tokenizer. UserError where the recipe asks for what cannot be, or the files hold no text."""
    recipe = recipe.resolved()
    alphabet = _alphabet(corpus, recipe) if recipe.algorithm in ("bpe", "wordpiece") else _Alphabet([], set(), [])
    rust = _LEARNERS[recipe.algorithm](corpus, recipe, alphabet)
    if not corpus.num_texts:
        raise corpus.no_text_error()
    rust = _add_specials(rust, recipe)
    notes = list(_size_notes(rust.get_vocab_size(), recipe, corpus))
    unknown = [character for character in alphabet.left_out if rust.token_to_id(character) is None]
    if unknown:
        notes.append(
            f"{len(unknown):,} rare characters did not fit and are unknown ({quoted(unknown, limit=6)}). "
            "Raise --vocab-size to learn them."
        )
    if corpus.num_rejected:
        notes.append(f"{corpus.num_rejected:,} rows had no text, the first: {corpus.first_reject}.")
    return Learned(rust, recipe, corpus.num_texts, corpus.num_rejected, notes)


def _size_notes(reached: int, recipe: Recipe, corpus: Corpus) -> Iterator[str]:
    if reached > recipe.vocab_size:
        raise UserError(
            "the texts have more distinct characters than the vocabulary can hold",
            where="--vocab-size",
            found=str(recipe.vocab_size),
            expected=f"at least {reached}",
            hint=f"Set --vocab-size {reached} or more.",
        )
    if recipe.algorithm == "char":
        if reached == recipe.vocab_size:
            yield "The vocabulary is full: rarer characters become unknown. Raise --vocab-size to include them."
    elif reached < recipe.vocab_size:
        floor = f" seen {recipe.min_count} times or more" if (recipe.min_count or 0) > 1 else ""
        yield (
            f"The vocabulary has {reached:,} entries, not {recipe.vocab_size:,}: these texts contain no more pieces{floor}."
        )


# Alphabets


@dataclass(frozen=True)
class _Alphabet:
    """Characters that are learned, and those left out, the most frequent first; those met inside a word (WordPiece)."""

    characters: list[str]
    inside: set[str]
    left_out: list[str]


def _alphabet(corpus: Corpus, recipe: Recipe) -> _Alphabet:
    """A first pass: every distinct word (WordPiece) or character (BPE), as normalized, the most frequent first."""
    from tokenizers import pre_tokenizers

    rust = _rust("WordLevel", recipe)
    if recipe.algorithm == "bpe":
        steps = [step for step in (recipe.pre_tokenizer(), split_characters()) if step is not None]
        rust.pre_tokenizer = pre_tokenizers.Sequence(steps)
    found = _trained(rust, corpus, "WordLevel", vocab_size=_ALL).get_vocab()
    words = sorted(found, key=found.__getitem__)
    every = list(dict.fromkeys(character for word in words for character in word))
    inside = {character for word in words for character in word[1:]} if recipe.algorithm == "wordpiece" else set()
    budget = (recipe.vocab_size - len(recipe.specials())) * _ALPHABET_SHARE
    entries = accumulate(1 + (character in inside) for character in every)
    num_kept = max(1, sum(total <= budget for total in entries))
    return _Alphabet(every[:num_kept], inside, every[num_kept:])


def _filled(pieces: dict[str, int], alphabet: _Alphabet, size: int) -> dict[str, int]:
    """A vocabulary that has places left (no more merges were found) takes in characters that had been left out."""
    full = dict(pieces)
    for character in alphabet.left_out:
        forms = [character, *([_PREFIX + character] if character in alphabet.inside else [])]
        if len(full) + len(forms) > size:
            break
        full |= {form: len(full) + number for number, form in enumerate(forms)}
    return full


# One learner per algorithm


def _learn_bpe(corpus: Corpus, recipe: Recipe, alphabet: _Alphabet) -> Any:
    from tokenizers import Tokenizer, decoders

    rust = _rust("BPE", recipe)
    rust.decoder = decoders.Metaspace() if "metaspace" in recipe.splits else decoders.Fuse()
    _trained(
        rust, corpus, "Bpe", vocab_size=recipe.vocab_size, special_tokens=recipe.specials(),
        min_frequency=recipe.min_count, initial_alphabet=alphabet.characters, limit_alphabet=len(alphabet.characters),
    )  # fmt: skip
    values = json.loads(rust.to_str())
    values["model"]["vocab"] = _filled(values["model"]["vocab"], alphabet, recipe.vocab_size)
    return Tokenizer.from_str(json.dumps(values))


def _learn_byte_bpe(corpus: Corpus, recipe: Recipe, alphabet: _Alphabet) -> Any:
    from tokenizers import decoders, pre_tokenizers, processors

    rust = _rust("BPE", recipe)
    rust.decoder = decoders.ByteLevel()
    rust.post_processor = processors.ByteLevel(trim_offsets=False)
    return _trained(
        rust, corpus, "Bpe", vocab_size=recipe.vocab_size, special_tokens=recipe.specials(),
        min_frequency=recipe.min_count, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip


def _learn_wordpiece(corpus: Corpus, recipe: Recipe, alphabet: _Alphabet) -> Any:
    """Continuations are handed in as special tokens, which fixes their ids; the model is then made anew without that role."""
    from tokenizers import decoders, models

    inside = sorted(alphabet.inside.intersection(alphabet.characters))
    fixed = [*recipe.specials(), *(_PREFIX + character for character in inside)]
    trained = _trained(
        _rust("WordPiece", recipe), corpus, "WordPiece", vocab_size=recipe.vocab_size, special_tokens=fixed,
        min_frequency=recipe.min_count, initial_alphabet=alphabet.characters, limit_alphabet=len(alphabet.characters),
    )  # fmt: skip
    rust = _rust("WordPiece", recipe)
    pieces = _filled(trained.get_vocab(), alphabet, recipe.vocab_size)
    rust.model = models.WordPiece(pieces, unk_token=recipe.roles()["unk"], max_input_chars_per_word=_LONGEST_WORD)
    rust.decoder = decoders.WordPiece(prefix=_PREFIX, cleanup=True)
    return rust


def _learn_unigram(corpus: Corpus, recipe: Recipe, alphabet: _Alphabet) -> Any:
    from tokenizers import Tokenizer, decoders

    unknown = recipe.roles()["unk"]
    rust = _rust("Unigram", recipe)
    rust.decoder = decoders.Metaspace() if "metaspace" in recipe.splits else decoders.Fuse()
    specials = recipe.specials()
    _trained(rust, corpus, "Unigram", vocab_size=recipe.vocab_size, special_tokens=specials, unk_token=unknown)
    values = json.loads(rust.to_str())
    values["model"]["vocab"] = _in_order(values["model"]["vocab"], len(specials))
    return Tokenizer.from_str(json.dumps(values))


def _in_order(pieces: list[list[Any]], num_special: int) -> list[list[Any]]:
    """Scores rounded, pieces sorted by them; the rare characters that the trainer puts last share their scores out by name."""
    specials, learned = pieces[:num_special], sorted(pieces[num_special:], key=lambda entry: -entry[1])
    start = len(learned)
    while start and len(learned[start - 1][0]) == 1:
        start -= 1
    rare = zip(sorted(piece for piece, _ in learned[start:]), (score for _, score in learned[start:]), strict=True)
    rounded = [[piece, round(score, _SCORE_DIGITS)] for piece, score in (*learned[:start], *rare)]
    return [*specials, *sorted(rounded, key=lambda entry: (-entry[1], entry[0]))]


def _learn_words(corpus: Corpus, recipe: Recipe, alphabet: _Alphabet) -> Any:
    from tokenizers import decoders

    rust = _rust("WordLevel", recipe)
    if recipe.algorithm == "char":
        rust.decoder = decoders.Fuse()
    elif "metaspace" in recipe.splits:
        rust.decoder = decoders.Metaspace()
    return _trained(
        rust, corpus, "WordLevel", vocab_size=recipe.vocab_size, special_tokens=recipe.specials(),
        min_frequency=recipe.min_count,
    )  # fmt: skip


_LEARNERS: dict[str, Callable[[Corpus, Recipe, _Alphabet], Any]] = {
    "bpe": _learn_bpe,
    "byte-bpe": _learn_byte_bpe,
    "wordpiece": _learn_wordpiece,
    "unigram": _learn_unigram,
    "word": _learn_words,
    "char": _learn_words,
}


def _rust(model: str, recipe: Recipe) -> Any:
    """An empty tokenizer with the recipe's normalization and splits."""
    from tokenizers import Tokenizer, models

    unknown = recipe.roles().get("unk")
    named = {} if model == "Unigram" or unknown is None else {"unk_token": unknown}
    rust = Tokenizer(getattr(models, model)(**named))
    if (normalizer := recipe.normalizer()) is not None:
        rust.normalizer = normalizer
    if (splits := recipe.pre_tokenizer()) is not None:
        rust.pre_tokenizer = splits
    return rust


def _trained(rust: Any, corpus: Corpus, trainer: str, **settings: Any) -> Any:
    from tokenizers import trainers

    with phase("learning the vocabulary"):
        rust.train_from_iterator(
            corpus.texts(), getattr(trainers, f"{trainer}Trainer")(show_progress=False, **settings)
        )
    return rust


# Saving


def _add_specials(rust: Any, recipe: Recipe) -> Any:
    """The tokenizer with its special tokens, and with the template that puts them around texts.

    The template is written as values: the library's own language for it would read a `:` or `$` in a token's name.
    """
    from tokenizers import Tokenizer

    rust.add_special_tokens(recipe.specials())
    if recipe.template != "bert":
        return rust
    cls, sep = recipe.roles()["cls"], recipe.roles()["sep"]

    def piece(token: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    values = json.loads(rust.to_str())
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece(cls, 0), first, piece(sep, 0)],
        "pair": [piece(cls, 0), first, piece(sep, 0), second, piece(sep, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [rust.token_to_id(token)], "tokens": [token]} for token in (cls, sep)
        },
    }
    return Tokenizer.from_str(json.dumps(values))


def save(learned: Learned, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, whole or not at all."""
    from transformers import PreTrainedTokenizerFast

    recipe = learned.recipe
    roles = recipe.roles()
    more = [token for token in recipe.specials() if token not in roles.values()]
    types = ["token_type_ids"] if recipe.template == "bert" else []
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned.rust,
        **{f"{role}_token": token for role, token in roles.items()},
        model_input_names=["input_ids", *types, "attention_mask"],
        clean_up_tokenization_spaces=False,
        **({"additional_special_tokens": more} if more else {}),
    )
    with whole_folder(folder) as temporary:
        tokenizer.save_pretrained(temporary)
