"""A trained run and rows with labels -> scores: of the run's own test split, or of any readable file.

scores = evaluate("runs/reviews-3fa9c1", "new_reviews.csv")
scores["metrics"]["accuracy"], scores["intervals"]["accuracy"], scores["baseline"]["tfidf_logreg"]["accuracy"]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from tunewright import hints
from tunewright.adapters.base import round_base
from tunewright.artifacts.model_folder import Run
from tunewright.batching.store import SplitStore
from tunewright.config.load import load_config
from tunewright.config.renamed import manifests_of
from tunewright.config.run_config import ModelConfig, RunConfig
from tunewright.errors import UserError
from tunewright.evaluation import scores as report
from tunewright.evaluation.read_again import read_again
from tunewright.evaluation.score_split import Evaluation, evaluate_split
from tunewright.execution import prepare_model
from tunewright.execution.base import AUTO, PLAIN, Wanted
from tunewright.files.atomic import read_json
from tunewright.prediction import Model, load
from tunewright.preparation import TEST, TRAIN, encode_file, open_like, options_of_run, prepare
from tunewright.reading.file_shapes import bare_fields
from tunewright.reading.in_memory import Readable, one_file, paths_in
from tunewright.reading.ledger import kept_rows, not_selected_rows
from tunewright.reading.locate import matching
from tunewright.reading.unchanged import Unchanged
from tunewright.records import Row
from tunewright.reporting.display import progress_shown
from tunewright.training.fingerprint import check, hash_of_rows
from tunewright.training.reference import reference_of

_GIVE_A_FILE = f"Give a file: {hints.evaluate()}."


def evaluate(
    run: Run, data: Readable | None = None, *, split: str = TEST, precision: str = "auto", device: str = "auto", execution: str = AUTO,
    skip_bad_rows: bool = False, note: Callable[[str], None] = lambda _: None, plugins: Iterable[str] = (), check: bool = True,
    progress: bool | None = None,
) -> report.Scores:  # fmt: skip
    """Scores of a trained run on its own `split`, or on `data`: a file, or rows in memory. UserError for bad input.

    run: a model from `load` is used as it is. execution, plugins, check: as for `load`. progress: as for `train`.
    """
    if data is not None and split != TEST:
        raise UserError(
            "split names a split of the run, so it cannot be combined with data",
            found=f"split {split!r}",
            hint="Leave out one.",
        )
    with progress_shown(progress):
        model = run
        if not isinstance(model, Model):
            model = load(
                run, precision=precision, device=device, execution=execution, plugins=plugins, check=check, say=note
            )
        config = _config_of(model)
        if data is None:
            return cast(report.Scores, report.ShownScores(_of_split(model, config, split, note)))
        paths = matching(str(data)) if isinstance(data, str | Path) else paths_in(data)
        given = data if len(paths) < 2 else _rows_of(paths, model, skip_bad_rows=skip_bad_rows)
        with one_file(given, "data") as path:
            scores = _of_file(model, config, path, skip_bad_rows=skip_bad_rows, note=note)
            return cast(report.Scores, report.ShownScores(scores))


def _rows_of(paths: Sequence[str], model: Model, *, skip_bad_rows: bool) -> dict[str, dict[str, Any]]:
    """The rows of several files as one set, by their addresses. UserError for a row that cannot be read, unless bad rows are skipped."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for row in open_like(path, options_of_run(model.saved.folder.parent, path), model.task).rows():
            if isinstance(row, Row):
                found[row.address] = dict(bare_fields(row))
            elif not skip_bad_rows:
                raise UserError(row.reason, where=row.address, hint="Fix the row, or skip such rows: --skip-bad-rows.")
    return found


def _of_file(
    model: Model, config: RunConfig | None, data: str, *, skip_bad_rows: bool, note: Callable[[str], None]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tunewright-") as folder:
        options = options_of_run(model.saved.folder.parent, data)
        files = Unchanged.opened([open_like(data, options, model.task)])
        with files.while_read():
            rows, ledger = encode_file(
                data, options, model.task, model.encoder, Path(folder), skip_bad_rows=skip_bad_rows
            )
        written = ledger.as_dict()
        scores = _scored(model, rows, config, num_kept=written["sources"][0]["kept"])
        counts = written["sources"][0]
        if counts["rejected"]:
            reasons = "; ".join(f"{reason} ({n:,})" for reason, n in list(written["reasons"].items())[:5])
            note(f"{counts['rejected']:,} of {counts['read']:,} rows are skipped: {reasons}")
        scores["ledger"] = {**{key: counts[key] for key in ("read", "kept", "rejected")}, "reasons": written["reasons"]}
        with_baseline = config is not None and config.evaluate.baselines and model.task.gold(rows) is not None
        texts = report.BaselineTexts(model.task, rows, capped=False) if with_baseline else None
        worst = report.worst_inputs(scores, rows, model.task)
        try:
            with files.while_read():
                source = open_like(data, options, model.task)
                read_again(source.rows(), [worst, texts] if texts else [worst], where=data)
        except UserError as error:
            note(
                f"{data} cannot be read again ({error.problem}), so there are no baselines and no texts of the worst rows."
            )
            report.add_worst_texts(scores, rows, {})
            return scores
        report.add_worst_texts(scores, rows, worst.of)
        if texts is not None and config is not None:
            _add_baseline(scores, config, texts, note)
        return scores


def _config_of(model: Model) -> RunConfig | None:
    path = model.saved.folder.parent / "config.yaml"
    return load_config(path, of_run=True) if path.is_file() else None


def _of_split(model: Model, config: RunConfig | None, split: str, note: Callable[[str], None]) -> dict[str, Any]:
    if config is None:
        raise UserError(
            "a model folder without its run has no test split",
            where=str(model.saved.folder),
            hint=f"Give a file: {hints.evaluate(model.saved.folder)}.",
        )
    folder = config.run_folder
    try:
        prepared = prepare(config, say=note)
    except UserError as error:
        raise UserError(f"the rows of this run cannot be read again: {error}", hint=_GIVE_A_FILE) from None
    origin = (
        read_json(folder / "scores.json", having=()).get("origin", {}) if (folder / "scores.json").is_file() else {}
    )
    manifest = prepared.manifest
    check(origin, {"rows": hash_of_rows(manifest)}, folder=folder, manifests=manifests_of(manifest), hint=_GIVE_A_FILE)
    if split not in prepared.store.splits:
        raise UserError(
            f"this run has no {split} split",
            found=", ".join(prepared.store.splits),
            hint=_GIVE_A_FILE,
        )
    ledger = prepared.manifest["ledger"]
    scores = _scored(
        model,
        prepared.store[split],
        config,
        num_kept=kept_rows(ledger, split),
        num_not_selected=not_selected_rows(ledger, split),
    )
    report.complete({split: scores}, config, prepared, model.task, note)
    return scores


def _scored(
    model: Model, rows: SplitStore, config: RunConfig | None, *, num_kept: int, num_not_selected: int = 0
) -> dict[str, Any]:
    task = _referenced(model, rows) if model.task.needs_reference else model.task
    evaluation: Evaluation = evaluate_split(
        model.network,
        task,
        rows,
        model.encoder,
        execution=model.execution,
        intervals=True,
        plugins=config.evaluate.metrics if config else (),
    )
    limit = config.evaluate.worst_rows if config else 20
    worst = model.task.worst(evaluation.scores, rows, limit)
    scores = report.split_scores(
        evaluation, worst, unit=model.task.stored_as, num_kept=num_kept, num_not_selected=num_not_selected
    )
    return {"schema": 1, "task": model.task.name, **scores}


def _referenced(model: Model, rows: SplitStore) -> Any:
    """The task with the reference log-probabilities of these rows, under the model that training started from. UserError if it is gone."""
    task, execution = model.task, model.execution
    began = ModelConfig(**task.start_model["model"])
    whole = torch.float64 if execution.precision == "fp64" else torch.float32
    network, fresh = task.build_model(
        began.locate(), seed=task.start_model["seed"], dtype="auto" if began.bits else whole
    )
    round_base(network, fresh, began.bits, execution.device, whole=True)
    network = network.to(whole)
    network.config.pad_token_id = model.encoder.pad_token_id
    how = PLAIN if execution.name == PLAIN else AUTO
    prepare_model(network, Wanted(how, execution.device, execution.precision, is_training=False))
    return task.with_reference_log_probs(
        reference_of(task, network.to(execution.device), rows, model.encoder, execution)
    )


def _add_baseline(
    scores: dict[str, Any], config: RunConfig, texts: report.BaselineTexts, note: Callable[[str], None]
) -> None:
    """Baselines trained on the run's training rows, scored on the same rows as the model."""
    try:
        prepared = prepare(config)
        learned = report.BaselineTexts(texts.task, prepared.store[TRAIN], capped=True)
        with prepared.files.while_read():
            read_again(prepared.inputs.rows(), [learned], where=str(config.data.train))
    except UserError as error:
        note(f"No baselines: the training files cannot be read again ({error.problem}).")
        return
    report.add_text_baselines({TEST: scores}, learned, {TEST: texts}, note)
