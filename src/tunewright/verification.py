"""Check that a saved model is the one that was trained: golden examples, computed again in every way to load it.

    for check in verify("runs/reviews-3fa9c1"):
        check.way, check.difference, check.broken         "transformers", 2e-07, None

Ways: our own loading; PEFT's adapter on its base; transformers' Auto classes and tokenizer; `transformers.pipeline`; every export
in RUN/exports. The checks stop at the first difference, which names the broken stage: template, tokenizer, added tokens, label order,
weights, or files that have changed since they were written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunewright.artifacts import golden_examples
from tunewright.artifacts.adapter_folder import ADAPTER, BASE, with_adapter
from tunewright.artifacts.model_folder import FILE, Run, open_saved, path_of
from tunewright.artifacts.run_files import changed_run_files
from tunewright.errors import first_line
from tunewright.exporters import ONNX_FACTS
from tunewright.files.manifests import MANIFEST, changed_files, describe_change, listed_files
from tunewright.files.paths import expanded
from tunewright.plugins import check_name, trust
from tunewright.reporting.phases import phase

EXPORTS, SCORES = "exports", "scores.json"
_PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}
_STAGES = {
    "chat_template": "template",
    "tokenizer": "tokenizer",
    "added_tokens": "added tokens",
    "config.json": "label order",
}
_NUM_COMPARED, _NUM_WRITTEN = 4, 8
"""Number of examples given to a pipeline, and of tokens generated for each."""
_GREEDY = {"do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
_HALF_TOLERANCE = 0.05
"""Tolerance of an export in half precision, as a share of the largest output."""


@dataclass(frozen=True)
class Broken:
    """stage: template, tokenizer, added tokens, label order, weights or files. found: what differs."""

    stage: str
    found: str


@dataclass(frozen=True)
class Check:
    """One way and its result. difference: the largest of all outputs, relative to the largest output (at least 1)."""

    way: str
    num_rows: int
    difference: float
    tolerance: float
    broken: Broken | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Differs(Exception):
    def __init__(self, stage: str, found: str) -> None:
        self.broken = Broken(stage, found)


def verify(target: Run, *, golden_from: Run | None = None, plugins: Iterable[str] = ()) -> list[Check]:
    """All checks of a run, a model folder or an export, up to the first that fails. UserError if there is nothing to verify.

    golden_from: a run, or a golden.json, whose examples are used instead of the folder's own. UserError if it has none.
    plugins: modules of your own whose code may run, if the run's task or adapter is one.
    """
    return list(run_checks(target, golden_from=golden_from, plugins=plugins))


def run_checks(target: Run, *, golden_from: Run | None = None, plugins: Iterable[str] = ()) -> Iterator[Check]:
    """`verify` as an iterator that yields each check when it is done."""
    trust(plugins)
    path = Path(expanded(str(path_of(target))))
    given = None if golden_from is None else golden_examples.read(_golden_folder(path_of(golden_from)))
    if _is_onnx(path):
        yield from _stopping(_onnx_checks(path, given))
        return
    folder = path / "model" if (path / "model").exists() or (path / SCORES).is_file() else path
    yield from _stopping(_folder_checks(folder, given))
    if folder != path:
        yield from _stopping(_export_checks(path))


def is_target(path: Path) -> bool:
    """Whether there is something to verify: a finished run, a model or an export, even a damaged one."""
    finished = (path / SCORES).is_file() or any((path / name / FILE).is_file() for name in (".", "model"))
    return finished or _is_onnx(path) or FILE in listed_files(path)


def _is_onnx(path: Path) -> bool:
    return (path / ONNX_FACTS).is_file() or ONNX_FACTS in listed_files(path)


def _stopping(checks: Iterator[Check]) -> Iterator[Check]:
    for check in checks:
        yield check
        if check.broken:
            return


def _export_checks(run: Path) -> Iterator[Check]:
    for export in sorted(path for path in (run / EXPORTS).glob("*") if path.is_dir() and not path.name.startswith(".")):
        of_run = _examples_of(run / "model")
        checks = (_onnx_checks if _is_onnx(export) else _folder_checks)(export, _examples_of(export) or of_run)
        for check in checks:
            yield replace(check, way=f"{EXPORTS}/{export.name}: {check.way}")


def _examples_of(folder: Path) -> dict[str, Any] | None:
    return golden_examples.read(folder) if (folder / golden_examples.FILE).is_file() else None


def _folder_checks(folder: Path, given: dict[str, Any] | None) -> Iterator[Check]:
    """The checks of a model folder; changed files that do not change the examples' outputs are reported last."""
    with phase("hashing the files"):
        changed = changed_files(folder)
    if broken := _damaged(folder, changed):
        yield Check("files", 0, 0.0, 0.0, broken)
        return
    saved = open_saved(folder)
    check_name("tasks", saved.facts["task"])  # only code that the user trusts may run
    run = folder.parent
    of_run = folder.name == "model" and (run / "config.yaml").is_file()
    ways = [("reload", _reloaded), ("transformers", _with_transformers), ("pipeline", _with_pipeline)]
    if saved.unmerged:
        ways = ways[:1]
    if saved.facts.get("adapter") and (of_run or saved.unmerged):
        changed += [f"../{part}/{name}" for part in (BASE, ADAPTER) for name in changed_files(run / part)]
        ways.append(("adapter on its base", _with_peft))
        if gone := [name for name in changed if not (folder / name).is_file()]:
            yield Check("files", 0, 0.0, 0.0, _changed_file(folder, gone[0]))
            return
    of_run_files = changed_run_files(run, remember=False) if folder.name == "model" else []
    examples = given or _examples_of(folder)
    if examples is not None:
        exact = saved.facts.get("export", {}).get("dtype", "fp32") == "fp32"
        tolerance = golden_examples.TOLERANCE if exact else _HALF_TOLERANCE
        for way, compute in ways:
            yield _checked(way, compute, folder, examples, tolerance, changed)
    yield _files_check(folder, changed or [f"../{name}" for name in of_run_files])


def _damaged(folder: Path, changed: Sequence[str]) -> Broken | None:
    """The reason not to compute anything, if files are missing, or those with the expected values have changed."""
    gone = [name for name in changed if not (folder / name).is_file()]
    described = [name for name in changed if name in (FILE, MANIFEST, ONNX_FACTS, golden_examples.FILE)]
    return _changed_file(folder, (gone or described)[0]) if gone or described else None


def _files_check(folder: Path, changed: Sequence[str]) -> Check:
    return Check("files", 0, 0.0, 0.0, _changed_file(folder, changed[0]) if changed else None)


def _changed_file(folder: Path, name: str) -> Broken:
    return Broken(_stage_of(name), f"{os.path.normpath(folder / name)} {describe_change(folder, name)}")


def _golden_folder(name: str | Path) -> Path:
    """The folder of the golden examples that a user names by a run, a folder, or golden.json itself. UserError if there are none."""
    path = Path(expanded(str(name)))
    if path.is_file() and path.name == golden_examples.FILE:
        return path.parent
    return path if (path / golden_examples.FILE).is_file() else open_saved(path).folder


def _checked(
    way: str, compute: Any, folder: Path, examples: dict[str, Any], tolerance: float, changed: Sequence[str]
) -> Check:
    try:
        with phase(f"computing the examples: {way}"):
            num_rows, difference, note = compute(folder, examples, tolerance)
    except _Differs as differs:
        return Check(way, 0, float("nan"), tolerance, differs.broken)
    except Exception as error:  # with a damaged file the libraries may raise anything
        stage = _stage_of(changed[0]) if changed else "weights"
        reason = first_line(error)
        return Check(way, 0, float("nan"), tolerance, Broken(stage, f"cannot be loaded ({reason})"))
    return Check(way, num_rows, difference, tolerance, note=note)


def _stage_of(file: str) -> str:
    name = Path(file).name
    if name.endswith((".safetensors", ".onnx", ".data")):
        return "weights"
    return next((stage for start, stage in _STAGES.items() if name.startswith(start)), "files")


# The ways


def _reloaded(folder: Path, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
    """As `predict` loads and encodes."""
    from tunewright.prediction import load

    model = load(folder, device="cpu", precision="fp32", check=False)  # changed files show in the outputs
    _compare_surroundings(golden_examples.surroundings(model.task, model.encoder), examples)
    _compare_labels(getattr(model.network, "config", None), examples)
    wanted = examples["examples"]
    rows = golden_examples.encoded(
        [golden_examples.GoldenText(one["text"], one["pair"], "").example for one in wanted], model.task, model.encoder
    )
    measure = _Measure(tolerance)
    for one, own in zip(wanted, rows, strict=True):
        if [row.input_ids.tolist() for row in own] != [row["input_ids"] for row in one["rows"]]:
            raise _Differs("tokenizer", f"other tokens of {one['text'][:60]!r}")
        types = [None if row.token_type_ids is None else row.token_type_ids.tolist() for row in own]
        if types != [row["token_type_ids"] for row in one["rows"]]:
            raise _Differs("tokenizer", f"other token types of {one['text'][:60]!r}")
        for row, known in zip(own, one["rows"], strict=True):
            measure.add(
                golden_examples.outputs_of(model.network, row, model.task, model.encoder), known["outputs"], one
            )
    return measure.result()


def _compare_surroundings(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, stage in (("template", "template"), ("added_tokens", "added tokens"), ("labels", "label order")):
        if found[key] != wanted[key]:
            raise _Differs(stage, f"{_short(found[key])} instead of {_short(wanted[key])}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _compare_labels(config: Any, wanted: dict[str, Any]) -> None:
    names = wanted["labels"]
    of_model = getattr(config, "id2label", None) or {}
    if names and [of_model.get(number) for number in range(len(of_model))] != names:
        raise _Differs("label order", f"config.json says {_short(list(of_model.values()))} instead of {_short(names)}")


def _with_transformers(folder: Path, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
    """As a script without this package does it: with AutoTokenizer and the class that config.json names."""
    import transformers

    from tunewright.models.loading import load_as_named
    from tunewright.pretrained.quiet import quiet_transformers

    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return _plain(tokenizer, load_as_named(folder, dtype="auto").float(), examples, tolerance)


def _with_pipeline(folder: Path, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
    """The tokenizer and model of `transformers.pipeline`, and its own results: scores, tags, words for a mask, a continuation."""
    import transformers

    from tunewright.pretrained.quiet import quiet_transformers

    name = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures[0]
    kind = next((kind for end, kind in _PIPELINES.items() if name.endswith(end)), None)
    if kind is None:
        return 0, 0.0, f"transformers has no pipeline for {name}"
    with quiet_transformers():
        pipe: Any = cast(Any, transformers).pipeline(
            kind, model=str(folder), device="cpu", dtype="float32", trust_remote_code=False
        )
        found = _plain(pipe.tokenizer, pipe.model, examples, tolerance)
        _COMPARED[kind](pipe, examples, max(tolerance, 1e-5))
    return found


def _comparable(examples: dict[str, Any], longest: int) -> list[dict[str, Any]]:
    """Some examples that a pipeline encodes as we do, without truncation; those with added tokens first."""
    able = [one for one in examples["examples"] if golden_examples.must_be_plain(one) and len(one["rows"]) == 1]
    able = [one for one in able if "typed" in one and len(golden_examples.wanted_ids(one) or ()) < longest]
    return sorted(able, key=lambda one: not one["why"].startswith("added"))[:_NUM_COMPARED]


def _compare_scores(pipe: Any, examples: dict[str, Any], tolerance: float) -> None:
    if not examples["labels"]:
        return
    several = pipe.model.config.problem_type == "multi_label_classification"
    for one in (one for one in examples["examples"] if golden_examples.must_be_plain(one)):
        logits = np.array(one["rows"][0]["outputs"], dtype=np.float64)
        powers = np.exp(logits - logits.max())
        wanted = 0.5 * (1 + np.tanh(logits / 2)) if several else powers / powers.sum()
        wanted = logits if pipe.model.config.problem_type == "regression" else wanted
        given = pipe({"text": one["text"], "text_pair": one["pair"]}, top_k=None, truncation=True)
        scores = {score["label"]: score["score"] for score in given}
        for label, score in zip(examples["labels"], wanted, strict=True):
            if abs(scores.get(label, np.inf) - score) > tolerance * max(1.0, abs(score)):
                raise _Differs(
                    "label order", f"{label!r} of {one['text'][:60]!r} has score {scores.get(label)}, not {score:.6f}"
                )


def _compare_tags(pipe: Any, examples: dict[str, Any], tolerance: float) -> None:
    """The most probable tag of every token, and its score."""
    for one in _comparable(examples, pipe.tokenizer.model_max_length):
        shares = _all_logits(pipe.model, one["rows"][0]).softmax(-1)
        for said in pipe(one["typed"], ignore_labels=[]):
            score, tag = shares[said["index"]].max(-1)
            wanted = pipe.model.config.id2label[int(tag)]
            _compare_said(one, (said["entity"], said["score"]), (wanted, float(score)), tolerance)


def _compare_fills(pipe: Any, examples: dict[str, Any], tolerance: float) -> None:
    """The most probable token of every mask, and its score."""
    for one in _comparable(examples, pipe.tokenizer.model_max_length):
        places = [at for at, number in enumerate(one["typed_ids"]) if number == pipe.tokenizer.mask_token_id]
        if one["pair"] is not None or not places:
            continue
        shares = _all_logits(pipe.model, one["rows"][0]).softmax(-1)
        found = pipe(one["typed"], top_k=1)
        for at, said in zip(places, found if len(places) == 1 else [each[0] for each in found], strict=True):
            score, token = shares[at].max(-1)
            _compare_said(one, (said["token"], said["score"]), (int(token), float(score)), tolerance)


def _compare_continuations(pipe: Any, examples: dict[str, Any], tolerance: float) -> None:
    """The greedy continuation of a prompt, or of a question in the chat template."""
    from tunewright.generation.generate import Sampling, generate

    chat = bool(examples["template"][2])
    for one in _comparable(examples, pipe.tokenizer.model_max_length - _NUM_WRITTEN):
        prompt = golden_examples.wanted_ids(one) or []
        given = [{"role": "user", "content": one["typed"]}] if chat else one["typed"]
        found = pipe(given, max_new_tokens=_NUM_WRITTEN, return_tensors=True, **_GREEDY)
        said = found[0]["generated_token_ids"]
        sampling = Sampling(temperature=0, max_new_tokens=_NUM_WRITTEN)
        wanted = [*prompt, *generate(pipe.model, prompt, sampling)][: len(said)]
        _compare_said(one, (pipe.tokenizer.decode(said), list(said)), (pipe.tokenizer.decode(wanted), wanted), 0.0)


def _compare_said(one: dict[str, Any], found: tuple[Any, Any], wanted: tuple[Any, Any], tolerance: float) -> None:
    """Compare (result, its score or tokens) of a pipeline with those of the model."""
    exact = isinstance(found[1], list)
    if found[0] != wanted[0] or (found[1] != wanted[1] if exact else abs(found[1] - wanted[1]) > tolerance):
        said, right = _short(found), _short(wanted)
        raise _Differs("tokenizer", f"the pipeline gives {said} for {one['typed'][:60]!r}, not {right}")


_COMPARED = {
    "text-classification": _compare_scores,
    "token-classification": _compare_tags,
    "fill-mask": _compare_fills,
    "text-generation": _compare_continuations,
}


def _plain(tokenizer: Any, network: Any, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
    _compare_labels(network.config, examples)
    measure, num_other = _Measure(tolerance), 0
    for one in examples["examples"]:
        ids = golden_examples.plain_ids(tokenizer, one, chat=bool(examples["template"][2]))
        must = golden_examples.must_be_plain(one)
        if must and ids != golden_examples.wanted_ids(one):
            raise _Differs("tokenizer", f"transformers gives other tokens for {one.get('typed', one['text'])[:60]!r}")
        num_other += not must
        for row in one["rows"]:
            measure.add(_logits(network, row), row["outputs"], one)
    return measure.result(f"{num_other} texts encoded differently, as expected" if num_other else "")


def _logits(network: Any, row: dict[str, Any]) -> np.ndarray:
    """Selected outputs of one row, without those of virtual tokens before it."""
    found = _all_logits(network, row).numpy()
    return golden_examples.selected(found[-len(row["input_ids"]) :] if found.ndim == 2 else found)


def _all_logits(network: Any, row: dict[str, Any]) -> Any:
    """fp32 `(labels,)` or `(length, labels)`."""
    import torch

    inputs = {"input_ids": torch.tensor([row["input_ids"]])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if row["token_type_ids"] is not None:
        inputs["token_type_ids"] = torch.tensor([row["token_type_ids"]])
    with torch.inference_mode():
        output = network(**inputs)
    logits = output.logits if hasattr(output, "logits") else output.prediction_logits
    return logits.float()[0]


def _with_peft(folder: Path, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
    """RUN/adapter on RUN/base, as a script with transformers and peft loads them."""
    from tunewright.models.loading import load_as_named

    run = folder.parent
    base = load_as_named(run / BASE, dtype="float32")
    _compare_labels(base.config, examples)
    network = with_adapter(base, run, plain=True).eval()
    measure = _Measure(tolerance)
    for one in examples["examples"]:
        for row in one["rows"]:
            measure.add(_logits(network, row), row["outputs"], one)
    return measure.result()


def _onnx_checks(folder: Path, given: dict[str, Any] | None) -> Iterator[Check]:
    from tunewright.exporters.onnx import TOLERANCE, session_outputs

    changed = changed_files(folder)
    if broken := _damaged(folder, changed):
        yield Check("files", 0, 0.0, 0.0, broken)
        return
    examples = given or golden_examples.read(folder)

    def compute(folder: Path, examples: dict[str, Any], tolerance: float) -> tuple[int, float, str]:
        run = session_outputs(folder)
        measure = _Measure(tolerance)
        for one in examples["examples"]:
            for row in one["rows"]:
                measure.add(golden_examples.selected(run(row)), row["outputs"], one)
        return measure.result()

    yield _checked("onnxruntime", compute, folder, examples, TOLERANCE, changed)
    yield _files_check(folder, changed)


class _Measure:
    """The largest relative difference so far; `add` raises if one is too large."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.largest, self.count = tolerance, 0.0, 0

    def add(self, found: np.ndarray, wanted: Sequence[float], example: dict[str, Any]) -> None:
        expected = np.array(wanted, dtype=np.float64)
        if found.shape != expected.shape:
            raise _Differs("weights", f"{found.size} outputs of {example['text'][:60]!r} instead of {expected.size}")
        difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
        if not difference <= self.tolerance:
            raise _Differs("weights", f"outputs of {example['text'][:60]!r} differ by {difference:.2g} of the largest")
        self.largest, self.count = max(self.largest, difference), self.count + 1

    def result(self, note: str = "") -> tuple[int, float, str]:
        return self.count, self.largest, note
