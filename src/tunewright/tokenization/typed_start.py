"""The tokenizer that is saved with a causal language model: a document's beginning is typed, and nothing is added to it.

    save_for_typing(folder, tokenizer, (1,))  AutoTokenizer: "<s>Once upon a time" -> [1 5713 3714 264 727], as `predict` begins a document
    as_trained(tokenizer)                     opened by us, it is again what it was in training: "Once upon" -> [1 5713 3714]

Tokenizers begin a text by themselves, or end it, or do neither; whoever types the BOS token would get it twice from the first, and an
end behind his prompt from the second. One rule for all of them is worth more to other programs: `bos_token + prompt` (or the end token,
where there is no other). Where even that would give other ids, a tokenizer is saved as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunewright.files.atomic import write_json
from tunewright.tokenization.added_tokens import own_words
from tunewright.tokenization.plain import TextOnly

AS_TRAINED = "tunewright_as_trained"
"""The key of tokenizer_config.json under which stands what was changed."""
_PARTS = ("post_processor", "pre_tokenizer")
_ADDS_NOTHING = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
_PROBES = ("Once upon a time", " once", "A\nb", "7 — é")
_FILES = ("tokenizer.json", "tokenizer_config.json")


def typed_start(tokenizer: Any, before: Sequence[int]) -> str:
    """What is typed before a prompt, so that it begins as a document: the text of the tokens that stand there."""
    return "".join(tokenizer.convert_ids_to_tokens(list(before)))


def adds_to_what_is_typed(tokenizer: Any, before: Sequence[int]) -> bool:
    """Whether a tokenizer written in Python adds more to a typed beginning than stands in training (ByT5 ends every text).

    Its files hold no rule that could be changed: other programs will write after that end.
    """
    if tokenizer.is_fast:
        return False
    wanted = [*before, *TextOnly.of(tokenizer)(_PROBES[:1])[0]]
    return list(tokenizer(typed_start(tokenizer, before) + _PROBES[0])["input_ids"]) != wanted


def save_for_typing(folder: Path, tokenizer: Any, before: Sequence[int]) -> None:
    """Change the files of a saved tokenizer so that a typed beginning gives the ids of training; proven on texts, or left alone.

    before: the tokens that begin a document.
    """
    if not tokenizer.is_fast:
        return
    start = typed_start(tokenizer, before)
    texts = [*_PROBES, *(f"a {word}b{word}" for word in sorted(own_words(tokenizer))[:4])]
    wanted = [[*before, *ids] for ids in TextOnly.of(tokenizer)(texts)]

    def is_right(opened: Any) -> bool:
        return [list(opened(start + text, split_special_tokens=False)["input_ids"]) for text in texts] == wanted

    if is_right(tokenizer):
        return
    for files in _candidates(folder, tokenizer, start if len(before) == 1 else None):
        with TemporaryDirectory() as temporary:
            _write(Path(temporary), files)
            right = is_right(_opened(Path(temporary)))
        if right:
            _write(folder, files)
            return


def _candidates(folder: Path, tokenizer: Any, start: str | None) -> Iterator[dict[str, dict[str, Any]]]:
    """Contents of the two files: without a template; and, for what marks only a text's first word, with every beginning marked."""
    values, config = (json.loads((folder / name).read_text(encoding="utf-8")) for name in _FILES)
    changed = {key: value for key, value in config.items() if key not in ("add_bos_token", "add_eos_token")}
    changed |= {"tokenizer_class": "PreTrainedTokenizerFast"}  # others build their template themselves
    kept = {name: values.get(name) for name in _PARTS} | {"bos_token": tokenizer.bos_token}
    if start is not None and start not in (tokenizer.bos_token, tokenizer.eos_token):
        changed["bos_token"] = start
    changed[AS_TRAINED] = kept
    bare = {**values, "post_processor": _ADDS_NOTHING}
    yield dict(zip(_FILES, (bare, changed), strict=True))
    marked = {**bare, "pre_tokenizer": _marking_all(values.get("pre_tokenizer"))}
    if marked != bare:
        yield dict(zip(_FILES, (marked, changed), strict=True))


def _marking_all(step: Any) -> Any:
    """Metaspace writes `▁` before a text's first word only: behind a typed token it would be missing."""
    if isinstance(step, list):
        return [_marking_all(one) for one in step]
    if not isinstance(step, dict):
        return step
    found = {key: _marking_all(value) for key, value in step.items()}
    return {**found, "prepend_scheme": "always"} if found.get("prepend_scheme") == "first" else found


def _write(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    for name, values in files.items():
        write_json(folder / name, values)


def _opened(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def as_trained(tokenizer: Any) -> None:
    """Put back what `save_for_typing` changed, in a tokenizer that was opened."""
    kept = tokenizer.init_kwargs.pop(AS_TRAINED, None)
    if not isinstance(kept, dict) or not tokenizer.is_fast:
        return
    from tokenizers import Tokenizer

    empty = json.loads(Tokenizer.from_str(_EMPTY).to_str())
    made = Tokenizer.from_str(json.dumps(empty | {name: kept.get(name) for name in _PARTS}))
    for name in _PARTS:
        if (part := getattr(made, name)) is not None:
            setattr(tokenizer.backend_tokenizer, name, part)
    tokenizer.bos_token = kept.get("bos_token")


_EMPTY = json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}})
