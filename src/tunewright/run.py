"""Wire a run together: config -> store -> model -> loop -> checkpoints -> scores -> model folder. The one place that does.

    result = train("config.yaml")
    result.folder, result.scores["test"]["metrics"]["accuracy"]

    RUN/config.yaml  ledger.json  rejected.jsonl  metrics.jsonl  checkpoints/  model/  scores.json

Starting the same config again resumes where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from tunewright import report
from tunewright.atomic import remove_leftovers, write_json, write_whole
from tunewright.config import RunConfig, load_config, parse_config
from tunewright.environment import describe, differences
from tunewright.errors import UserError
from tunewright.evaluation import Evaluation, evaluate_split, worst_rows
from tunewright.fit import Point, verdict
from tunewright.models.embedding import install_row_embeddings
from tunewright.models.load import choose_device, has_stock_dropout, make_rows_independent
from tunewright.models.memory import keep_freed_memory
from tunewright.predict import resolve_precision
from tunewright.prepare import TEST, TRAIN, VALIDATION, Prepared, prepare
from tunewright.resume import compare_configs, settled
from tunewright.saved import save_model
from tunewright.section import Cadence
from tunewright.tasks.base import larger_is_better
from tunewright.tokens.plan import Plan
from tunewright.tokens.tokenizer import load_encoder
from tunewright.training import checkpoint as checkpoints
from tunewright.training.engine import Settings, Step, training_steps
from tunewright.training.optimizer import (
    Schedule,
    build_optimizer,
    freeze,
    learning_rates,
    parameter_groups,
    set_learning_rate,
)
from tunewright.training.preflight import Preflight, preflight
from tunewright.training.trackers import MetricsFile, TensorBoard

_CPU_TOKENS, _GPU_TOKENS = 1_024, 16_384


class Reporter:
    """What a run tells while it goes. Every method may be left as it is; the command line's prints."""

    def note(self, text: str) -> None: ...

    def before_first_step(self, preflight: Preflight) -> None: ...

    def step(self, step: Step, num_steps: int) -> None: ...

    def evaluated(self, evaluation: Evaluation, step: int, *, is_best: bool, metric: str) -> None: ...

    def finished(self, result: RunResult) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """A finished run. scores: split -> what `scores.json` holds for it."""

    folder: Path
    scores: dict[str, Any]
    verdict: dict[str, str]
    history: list[dict[str, Any]]
    num_steps: int
    already_finished: bool = False


class Interrupted(Exception):
    """The run was asked to stop and did, after a checkpoint."""

    def __init__(self, signal_number: int, folder: Path, step: int) -> None:
        self.signal_number, self.folder, self.step = signal_number, folder, step
        super().__init__(f"stopped after step {step}; resume with: tunewright train {folder / 'config.yaml'}")


def train(
    config: RunConfig | Mapping[str, Any] | str | Path,
    overrides: Sequence[str] = (),
    *,
    reporter: Reporter | None = None,
) -> RunResult:
    """Train as a config says, or go on with a run that was interrupted. UserError for everything the user can mend."""
    return Run(as_config(config, overrides), reporter or Reporter()).go()


def as_config(config: RunConfig | Mapping[str, Any] | str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A RunConfig, its values, or the path of a YAML file."""
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, Mapping):
        return parse_config(config) if not overrides else load_config(None, overrides, base=config)
    return load_config(config, overrides)


def batches(
    config: RunConfig | Mapping[str, Any] | str | Path, split: str = TRAIN, *, epoch: int = 0
) -> Iterator[dict[str, torch.Tensor]]:
    """One epoch of a config's batches for a plain PyTorch loop: dicts with Hugging Face names, `labels` included.

    Every dict is one step's rows in the plan's order, padded to their longest.
    """
    resolved = as_config(config)
    prepared = prepare(resolved)
    task, encoder = prepared.task(), _encoder(resolved, prepared)
    rows = prepared.store[split]
    plan = Plan(len(rows), resolved.train.batch_size, resolved.train.seed)
    for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
        _, positions = plan.rows_of_step(step)
        batch = task.collate(rows, positions, encoder, width=int(rows.lengths[positions].max()))
        yield {**batch.inputs, **batch.targets}


def _encoder(config: RunConfig, prepared: Prepared) -> Any:
    return load_encoder(
        prepared.model, max_length=prepared.manifest["max_length"], truncation_side=config.data.truncation_side,
        padding_side=config.data.padding_side,
    )  # fmt: skip


@dataclass
class _Progress:
    """What must survive an interruption beside weights and optimizer."""

    step: int = 0
    samples: int = 0
    best_score: float | None = None
    best_step: int | None = None
    num_bad_evaluations: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    """Of the steps since the last evaluation, for the training curve."""
    loss_steps: int = 0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Run:
    """One run: everything it needs, set up in `__init__`, done in `go`."""

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.folder = config.run_folder
        self.checkpoints = self.folder / "checkpoints"
        self._check_folder()

    # Set-up

    def _check_folder(self) -> None:
        """Refuse a folder that holds another run, before anything slow happens."""
        saved = self.folder / "config.yaml"
        if saved.is_file():
            before = load_config(saved)
            for line in compare_configs(before, self.config, folder=self.folder):
                self.reporter.note(line)
            self.config = settled(before, self.config)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                "the folder is not empty and holds no run", where=f"output {self.folder}", mend="Choose another output."
            )

    def _start_processes(self) -> None:
        """One process, or the ranks of `accelerate launch`/`torchrun`."""
        os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)  # would scale our gradients
        self.device = choose_device(self.config.train.device)
        self.num_ranks, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        if self.num_ranks == 1:
            self.accelerator = None
            return
        from accelerate import Accelerator

        self.accelerator = Accelerator(mixed_precision="no", cpu=self.device.type == "cpu")
        self.device = self.accelerator.device
        if self.rank:
            self.reporter = Reporter()

    def _set_up(self) -> None:
        config, train_config = self.config, self.config.train
        self._start_processes()
        keep_freed_memory()
        with self._main_process_first():
            self.prepared = prepare(config, say=self.reporter.note)
        self.encoder = _encoder(config, self.prepared)
        rows = self.prepared.store[TRAIN]
        self.task = self.prepared.task().weighted(rows, train_config.class_weights)
        precision = resolve_precision(train_config.precision, self.device)
        dtype = torch.float64 if precision == "fp64" else torch.float32
        self.model, self.fresh = self.task.build_model(self.prepared.model, seed=train_config.seed, dtype=dtype)
        self.model.config.pad_token_id = self.encoder.pad_token_id
        freeze(self.model, train_config.freeze, self.fresh)
        if train_config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._make_rows_independent()
        self.model.to(self.device)
        self.plan = Plan(
            len(rows), train_config.batch_size, train_config.seed, train_config.epochs, train_config.max_steps
        )
        self.rates = learning_rates(train_config, self.model.config.get_text_config().hidden_size)
        self.optimizer = build_optimizer(
            parameter_groups(self.model, self.fresh, train_config, self.rates), train_config
        )
        self.schedule = Schedule.of(train_config, self.plan.num_steps)
        budget = train_config.micro_batch_tokens
        self.settings = Settings(
            seed=train_config.seed,
            token_budget=(_GPU_TOKENS if self.device.type == "cuda" else _CPU_TOKENS) if budget == "auto" else budget,
            precision=precision, device=self.device, max_grad_norm=train_config.max_grad_norm, padding=config.data.padding,
            stock_dropout=has_stock_dropout(self.model), rank=self.rank, num_ranks=self.num_ranks,
        )  # fmt: skip
        metric = config.evaluate.metric
        self.metric = self.task.best_metric() if metric == "auto" else metric

    @contextmanager
    def _main_process_first(self) -> Iterator[None]:
        if self.rank:
            torch.distributed.barrier()
        yield
        if self.num_ranks > 1 and not self.rank:
            torch.distributed.barrier()

    def _make_rows_independent(self) -> None:
        if self.device.type != "cpu":
            return
        if self.num_ranks == 1:
            install_row_embeddings(self.model)
        if self.config.train.dropout == "stock":
            return
        reason = make_rows_independent(self.model)
        if reason:
            self.reporter.note(
                f"Stock dropout is used ({reason}): masks then depend on how a step is cut into micro-batches, and training is slower."
            )

    # The run

    def go(self) -> RunResult:
        if self._is_finished():
            return self._finished_before()
        self._set_up()
        self.progress = self._resume()
        if not self.rank:
            self._write_beginnings()
        self.trackers = self._open_trackers() if not self.rank else []
        network = self.model if self.accelerator is None else self.accelerator.prepare(self.model)
        self.reporter.before_first_step(preflight(self))
        with _stop_signals() as stop:
            self._loop(network, stop)
        return self._finish()

    def _loop(self, network: Any, stop: _Stop) -> None:
        config = self.config
        saving, evaluating = _Due(config.train.save_every, self.plan), _Due(config.evaluate.every, self.plan)
        rows, step = self.prepared.store[TRAIN], None
        if self.progress.stopped_early:
            return
        steps = training_steps(
            network, self.task, rows, self.encoder, self.plan, self.optimizer, settings=self.settings,
            start_samples=self.progress.samples,
            learning_rate=lambda step: set_learning_rate(self.optimizer, self.schedule.factor(step)),
        )  # fmt: skip
        for step in steps:
            self._count(step)
            last = step.number == self.plan.num_steps
            if evaluating.after(step.number, last) and self._has_validation():
                self._evaluate(network, step.number)
            stopped = self._should_stop_early()
            if (
                saving.after(step.number, last or stopped)
                or stop.signal_number
                or self.progress.best_step == step.number
            ):
                self._save()
            if stopped:
                self.reporter.note(
                    f"Stopped early: {config.train.early_stopping} evaluations without a better {self.metric}."
                )
                return
            if stop.signal_number and not last:
                raise Interrupted(stop.signal_number, self.folder, step.number)

    def _count(self, step: Step) -> None:
        progress = self.progress
        progress.step, progress.samples = step.number, step.samples
        progress.loss_sum += step.loss
        progress.loss_steps += 1
        self.reporter.step(step, self.plan.num_steps)
        if step.number % self.config.train.log_every == 0 or step.number == self.plan.num_steps:
            self._track({
                "step": step.number, "epoch": round(step.epoch, 4), "samples": step.samples, "loss": step.loss,
                "grad_norm": step.grad_norm, "learning_rate": step.learning_rate,
                "tokens_per_second": round(step.num_tokens / step.seconds, 1),
                "padding_share": round(1 - step.num_tokens / step.num_padded_tokens, 4),
            })  # fmt: skip

    def _has_validation(self) -> bool:
        return VALIDATION in self.prepared.store.splits

    def _evaluate(self, network: Any, step: int) -> None:
        """Score the validation split; remember the best."""
        rows = self.prepared.store[VALIDATION]
        evaluation = evaluate_split(network, self.task, rows, self.encoder, settings=self.settings)
        metrics, progress = evaluation.metrics, self.progress
        if self.metric not in metrics:
            raise UserError(
                f"no metric {self.metric!r}",
                where="evaluate.metric",
                found=", ".join(metrics),
                mend="Choose one of them.",
            )
        score = metrics[self.metric]
        is_best = progress.best_score is None or (
            score > progress.best_score if larger_is_better(self.metric) else score < progress.best_score
        )
        if is_best:
            progress.best_score, progress.best_step, progress.num_bad_evaluations = score, step, 0
        else:
            progress.num_bad_evaluations += 1
        epoch = self.plan.samples_before(step) / self.plan.num_rows
        progress.history.append({
            "step": step, "samples": progress.samples, "epoch": epoch, "train_loss": progress.loss_sum / max(1, progress.loss_steps),
            "validation_loss": metrics["loss"], "score": score, "is_best": is_best,
        })  # fmt: skip
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self._track({"step": step, "epoch": round(epoch, 4), "split": VALIDATION, **metrics})
        self.reporter.evaluated(evaluation, step, is_best=is_best, metric=self.metric)

    def _should_stop_early(self) -> bool:
        patience = self.config.train.early_stopping
        self.progress.stopped_early = patience is not None and self.progress.num_bad_evaluations >= patience
        return self.progress.stopped_early

    def _track(self, record: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.write(record)

    def _save(self) -> None:
        if self.rank:
            return
        state = {**self.progress.as_dict(), "environment": describe()}
        checkpoints.save(self.checkpoints, self.model, self.optimizer, state)
        checkpoints.prune(self.checkpoints, keep=self.config.train.keep, best_step=self.progress.best_step)

    def _resume(self) -> _Progress:
        found = checkpoints.newest(self.checkpoints, self.reporter.note)
        if found is None:
            if self.checkpoints.is_dir() and any(self.checkpoints.glob("step-*")):
                self.reporter.note("No checkpoint is whole: training starts from the beginning.")
            return _Progress()
        checkpoints.load_model(found, self.model)
        checkpoints.load_optimizer(found, self.model, self.optimizer)
        progress = _Progress(**{name: found.state[name] for name in vars(_Progress())})
        self.reporter.note(f"Resuming after step {progress.step:,} of {self.plan.num_steps:,} ({found.folder}).")
        for line in differences(found.state["environment"], describe()):
            self.reporter.note(f"{line}: the result will not be bit-identical to an uninterrupted run.")
        if progress.best_step is not None and not checkpoints.folder_of(self.checkpoints, progress.best_step).is_dir():
            progress.best_score = progress.best_step = None  # judged again by what comes
        progress.stopped_early = False
        return progress

    def _write_beginnings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        write_whole(self.folder / "config.yaml", yaml.safe_dump(self._resolved(), sort_keys=False, allow_unicode=True))
        for name in ("ledger.json", "rejected.jsonl"):
            shutil.copyfile(self.prepared.store.folder / name, self.folder / name)

    def _resolved(self) -> dict[str, Any]:
        """The config with what `auto` became, and the folder, so that config.yaml alone resumes the run."""
        values = self.config.as_dict()
        values["train"] |= {
            "precision": self.settings.precision,
            "learning_rate": self.rates[0],
            "head_learning_rate": self.rates[1],
            "micro_batch_tokens": self.settings.token_budget,
        }
        return {**values, "task": self.task.name, "output": str(self.folder)}

    def _open_trackers(self) -> list[Any]:
        trackers: list[Any] = [MetricsFile(self.folder / "metrics.jsonl", from_step=self.progress.step)]
        if "tensorboard" in self.config.train.log_to:
            trackers.append(TensorBoard(self.folder / "tensorboard", from_step=self.progress.step))
        return trackers

    # The end

    def _finish(self) -> RunResult:
        """Take the best weights, score the test split, write the model. Other ranks only help with scoring."""
        best = self.progress.best_step
        if best is not None and best != self.progress.step:
            self._load_best(best)
        scores: dict[str, Any] = {}
        for name in (VALIDATION, TEST):
            if name in self.prepared.store.splits:
                rows = self.prepared.store[name]
                evaluation = evaluate_split(
                    self.model, self.task, rows, self.encoder, settings=self.settings, intervals=True
                )
                scores[name] = report.split_scores(
                    evaluation,
                    self.task,
                    rows,
                    worst_rows(evaluation, self.task, rows, self.config.evaluate.worst_rows),
                )
        history = self.progress.history
        if self.config.evaluate.baselines and not self.rank:
            report.add_baselines(scores, self.config, self.prepared, self.task, self.reporter.note)
        majority = scores.get(VALIDATION, {}).get("baseline", {}).get("majority", {}).get("log_loss")
        judged = verdict(
            [Point(**{k: v for k, v in point.items() if k != "step"}) for point in history], baseline_loss=majority
        )
        result = RunResult(
            self.folder,
            scores,
            {"kind": judged.kind, "reason": judged.reason, "advice": judged.advice},
            history,
            self.progress.step,
        )
        if not self.rank:
            save_model(self.folder / "model", self.model, self.task, self.encoder, precision=self.settings.precision)
            write_json(self.folder / "scores.json", {
                "schema": 1, "task": self.task.name, "metric": self.metric, "num_steps": self.progress.step, "best_step": best,
                "splits": scores, "verdict": result.verdict, "history": history, "environment": describe(),
            })  # fmt: skip
        self.reporter.finished(result)
        return result

    def _load_best(self, step: int) -> None:
        try:
            checkpoints.load_model(checkpoints.verify(checkpoints.folder_of(self.checkpoints, step)), self.model)
        except checkpoints.CheckpointDamaged as damage:
            self.reporter.note(
                f"The best checkpoint (step {step}) is damaged ({damage}); the last weights are used instead."
            )
            self.progress.best_step = None

    def _is_finished(self) -> bool:
        """Does the folder hold a model that this config has nothing to add to?"""
        path = self.folder / "scores.json"
        if not path.is_file() or not (self.folder / "model" / "tunewright.json").is_file():
            return False
        saved = load_config(self.folder / "config.yaml")
        return saved.train.epochs == self.config.train.epochs and saved.train.max_steps == self.config.train.max_steps

    def _finished_before(self) -> RunResult:
        facts = json.loads((self.folder / "scores.json").read_text(encoding="utf-8"))
        result = RunResult(
            self.folder, facts["splits"], facts["verdict"], facts["history"], facts["num_steps"], already_finished=True
        )
        self.reporter.finished(result)
        return result


class _Due:
    """Tells after which steps something is due."""

    def __init__(self, every: str | int, plan: Plan) -> None:
        self._cadence, self._plan, self._since = Cadence.parse(every), plan, time.monotonic()

    def after(self, step: int, last: bool) -> bool:
        kind, amount = self._cadence.kind, self._cadence.amount
        if last or kind == "never":
            return last
        if kind == "epoch":
            return step % self._plan.steps_per_epoch == 0
        if kind == "steps":
            return step % amount == 0
        if time.monotonic() - self._since < amount:
            return False
        self._since = time.monotonic()
        return True


@dataclass
class _Stop:
    signal_number: int = 0


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """The first SIGINT or SIGTERM lets the step finish; a second one stops at once. Only where signals can be caught."""
    stop = _Stop()

    def handle(number: int, _frame: Any) -> None:
        if stop.signal_number:
            os._exit(128 + number)
        stop.signal_number = number

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: a notebook's worker, a web server
        pass
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
