"""Wire a run together: config -> store -> model -> loop -> checkpoints -> scores -> model folder. The one place that does.

    result = train("config.yaml")
    result.folder, result.scores["test"]["metrics"]["accuracy"]

    RUN/config.yaml  ledger.json  rejected.jsonl  metrics.jsonl  checkpoints/  model/  scores.json

Starting the same config again resumes where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from tunewright import hints
from tunewright.artifacts import golden_examples
from tunewright.artifacts.adapter_folder import save_beginning, save_trained, save_weights
from tunewright.artifacts.run_files import METRICS, changed_run_files, is_known, said, seal, state_of, unseal
from tunewright.config.renamed import manifests_of
from tunewright.config.run_config import SCHEMA, RunConfig
from tunewright.config.sections import AdapterKeys, DataKeys, EvaluateKeys, ModelKeys, TaskKeys, TrainKeys
from tunewright.errors import UserError, counted
from tunewright.evaluation import scores as report
from tunewright.evaluation.best_metric import best_metric, without_value
from tunewright.evaluation.estimate import estimate
from tunewright.evaluation.overfitting import as_good_a_baseline, points_of, verdict
from tunewright.evaluation.score_split import Evaluation, evaluate_split
from tunewright.files.atomic import read_json, remove_leftovers, whole_file, write_json, write_whole
from tunewright.preparation import TEST, VALIDATION, Inputs, prepare
from tunewright.reading.in_memory import keep_in_run
from tunewright.reading.ledger import kept_rows, not_selected_rows
from tunewright.reporting.display import progress_shown
from tunewright.reporting.phases import phase
from tunewright.runs.autoconfig import AnyConfig, as_config
from tunewright.runs.decision import decision_of
from tunewright.runs.environment import describe, differences, untested_line
from tunewright.runs.from_python import words_of
from tunewright.runs.reporter import Interrupted, LineReporter, Reporter, RunResult
from tunewright.runs.resume import check_folder, check_settled, is_finished
from tunewright.runs.setup import build_components
from tunewright.training import checkpoint as checkpoints
from tunewright.training.engine import Step, training_steps
from tunewright.training.fingerprint import check as check_origin
from tunewright.training.fingerprint import hash_of_rows, origin_of
from tunewright.training.optimizer import set_learning_rate
from tunewright.training.preflight import preflight
from tunewright.training.processes import Processes
from tunewright.training.progress import Due, Progress, Speed, history_of
from tunewright.training.signals import Stop, Stopped, saving, stop_signals
from tunewright.training.trackers import MetricsFile, TensorBoard


def train(
    config: AnyConfig, overrides: Sequence[str] = (), *, task: str | TaskKeys | None = None, model: str | Path | ModelKeys | None = None,
    data: DataKeys | None = None, adapter: str | AdapterKeys | None = None, train: TrainKeys | None = None,
    evaluate: EvaluateKeys | None = None, plugins: Sequence[str] = (), output: str | Path | None = None, reporter: Reporter | None = None,
    progress: bool | None = None,
) -> RunResult:  # fmt: skip
    """Train on data, or as a config says; or go on with a run that was interrupted. UserError for everything the user can correct.

    config: data (a path, a pandas or polars DataFrame, a pyarrow Table, a datasets.Dataset or DatasetDict, a list or dict of dicts, a dict
    of splits), a config as an object or as its values, or the path of a YAML file. The keyword arguments are the sections of the config,
    and lie over it: `train(frame, model="bert-base-cased", train={"epochs": 3}, output="runs/x")`. overrides: `key=value` words, as on the
    command line. progress: a line of progress; None: on a terminal and in a notebook. reporter: is told what happens, in place of the
    lines that are printed there.
    """
    words = words_of(
        task=task,
        model=model,
        data=data,
        adapter=adapter,
        train=train,
        evaluate=evaluate,
        plugins=plugins,
        output=output,
    )
    with progress_shown(progress) as is_shown:
        usual = LineReporter() if is_shown else Reporter()
        return Run(as_config(config, overrides, words=words), reporter or usual).go()


class Run:
    """One run in its folder: `go` trains, or goes on with what stands there."""

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.folder = config.run_folder
        self.checkpoints = self.folder / "checkpoints"
        self.progress, self.is_judged, self.is_saved = Progress(), True, False
        self.speed = Speed()
        self.processes: Processes | None = None
        self.beginnings: dict[str, str] = {}
        self.has_begun = False
        self._check_folder()

    def _check_folder(self) -> None:
        """Refuse a folder that holds another run, before anything slow happens."""
        self.config, notes = check_folder(self.config)
        for line in notes:
            self.reporter.note(line)

    def go(self) -> RunResult:
        """Train to the end; no other process may work in the folder meanwhile, but the ranks of one launcher."""
        with self._alone():
            try:
                return self._go()
            except Stopped as stopped:
                raise Interrupted(stopped.signal_number, self.folder, self.progress.step) from None
            except Exception as error:  # a library may say in its own way that a file is gone
                if gone := self._what_is_gone():
                    raise gone from error
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock: the main process does, for all ranks that its launcher started; they learn together whether it could."""
        from filelock import FileLock, Timeout

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.processes = Processes.start(self.config.train.device)
        is_main = self.processes is None or self.processes.is_main
        lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        is_taken = 0
        if is_main:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                is_taken = 1
        if self.processes is not None:
            is_taken = self.processes.all_reduce_max(is_taken)
        if is_taken:
            raise UserError(
                "another process is training this run",
                where=f"output {self.folder}",
                hint="Wait for it, or set another output.",
            )
        try:
            yield
        finally:
            if is_main:
                lock.release()

    def _what_is_gone(self) -> UserError | None:
        """What somebody deleted under the feet of this run, once it had begun."""
        if not self.has_begun:
            return None
        if not (self.folder / "config.yaml").is_file():
            return UserError(
                "the run folder was deleted during the run",
                where=f"output {self.folder}",
                hint="Start the same command again; it begins with the first step.",
            )
        store = self.parts.prepared.store.folder
        if not (store / "manifest.json").is_file():
            return UserError(
                "the token store was deleted during the run",
                where=str(store),
                hint="Start the same command again; the store is built again, and training continues after the last checkpoint.",
            )
        return None

    def _require_folder(self) -> None:
        """UserError where the run folder is gone: it is not made again with half of what belongs in it."""
        if not (self.folder / "config.yaml").is_file() and (gone := self._what_is_gone()):
            raise gone

    def _go(self) -> RunResult:
        if is_finished(self.config):
            return self._finished_before()
        self.parts = parts = build_components(
            self.config, say=self.reporter.note, opened=self._tell_decision, processes=self.processes
        )
        self.is_main = parts.processes.is_main
        if not self.is_main:
            self.reporter = Reporter()
        if said := untested_line():
            self.reporter.note(said)
        asked = (self.config.evaluate.metric, parts.task, parts.prepared.store)
        self.metric = best_metric(*asked, plugins=self.config.evaluate.metrics)
        if said := without_value(*asked):
            self.reporter.note(said)
        self.origin = origin_of(parts)
        self.progress = self._resume()
        if self.is_main:
            self._write_beginnings()
        self.has_begun = True
        self.trackers = self._open_trackers() if self.is_main else []
        accelerator = parts.processes.accelerator
        self.network = parts.model if accelerator is None else accelerator.prepare(parts.model)
        with phase("measuring a step"):
            facts = preflight(parts, first_step=self.progress.step)
            time = estimate(parts, first_step=self.progress.step, training=facts.seconds_left)
        self.reporter.before_first_step(facts, time)
        with (
            stop_signals() as stop,
            phase("training", parts.plan.num_steps, "steps", first=self.progress.step) as shown,
        ):
            self.shown = shown
            self._loop(stop)
        return self._finish()

    def _tell_decision(self, inputs: Inputs) -> None:
        """The first lines of a run, told by its main process before the files are read through."""
        if os.environ.get("RANK", "0") == "0":
            self.reporter.decided(decision_of(self.config, inputs, model=self.config.model.locate()))

    # The loop

    def _loop(self, stop: Stop) -> None:
        parts, train_config, progress = self.parts, self.config.train, self.progress
        keeping, evaluating = Due(train_config.save_every, parts.plan), Due(self.config.evaluate.every, parts.plan)
        if not self.is_judged:  # the evaluation after the step of this checkpoint was interrupted
            self._evaluate(stop, progress.step, is_saved=True)
        if self._should_stop_early():
            self.reporter.note(
                f"{counted(progress.num_bad_evaluations, 'evaluation')} without a better score: raise train.early_stopping to continue."
            )
            return
        steps = training_steps(
            self.network,
            parts.task,
            parts.rows,
            parts.encoder,
            parts.plan,
            parts.optimizer,
            execution=parts.execution,
            max_grad_norm=train_config.max_grad_norm,
            start_samples=progress.samples,
            learning_rate=lambda step: set_learning_rate(parts.optimizer, parts.schedule.factor(step)),
            say=self.reporter.note,
        )
        all_reduce_max = parts.processes.all_reduce_max
        for step in self._until_stopped(steps):
            self._count(step)
            last = step.number == parts.plan.num_steps
            signal_number = all_reduce_max(stop.signal_number)
            due = all_reduce_max(keeping.after(step.number, last)) or signal_number
            if all_reduce_max(evaluating.after(step.number, last)) and VALIDATION in parts.prepared.store.splits:
                self.is_judged = False
            if due:
                self._save()
            if signal_number:
                raise Stopped(signal_number)
            if not self.is_judged:
                self._evaluate(stop, step.number, is_saved=bool(due))
            if self._should_stop_early():
                patience = train_config.early_stopping
                self.reporter.note(f"Stopped early: {patience} evaluations without a better {self.metric}.")
                return

    def _until_stopped(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps. One that is broken off after a signal has changed nothing: what was done before it is saved."""
        began = self.progress.step
        try:
            yield from steps
        except Stopped:
            if self.progress.step > began:
                self._save()
            raise

    def _count(self, step: Step) -> None:
        progress, num_steps = self.progress, self.parts.plan.num_steps
        progress.step, progress.samples = step.number, step.samples
        progress.loss_sum += step.loss
        progress.loss_steps += 1
        self.shown.reached(step.number)
        self.shown.detail = self.speed.after(step)
        self.reporter.step(step, num_steps)
        if step.number % self.config.train.log_every == 0 or step.number == num_steps:
            record = {"step": step.number, "epoch": round(step.epoch, 4), "samples": step.samples, "loss": step.loss}
            record |= {"grad_norm": step.grad_norm, "learning_rate": step.learning_rate}
            record["tokens_per_second"] = round(step.num_tokens / step.seconds, 1)
            record["padding_share"] = round(1 - step.num_tokens / step.num_padded_tokens, 4)
            self._track(record)

    def _evaluate(self, stop: Stop, step: int, *, is_saved: bool) -> None:
        """Score the validation split and remember the best. Interrupted, it is begun again from the checkpoint of this step.

        is_saved: whether that stands already; then only what is now known is added to it.
        """
        parts, progress = self.parts, self.progress
        rows = parts.prepared.store[VALIDATION]
        try:
            with stop.at_once():
                evaluation = evaluate_split(
                    parts.model,
                    parts.task,
                    rows,
                    parts.encoder,
                    execution=parts.execution,
                    plugins=self.config.evaluate.metrics,
                )
        except Stopped:
            if not is_saved:
                self._save()
            raise
        self._judge(evaluation, step)
        self.is_judged = True
        stopped = self._should_stop_early()
        if is_saved:
            self._save_state()
        elif stopped or progress.best_step == step:
            self._save()

    def _judge(self, evaluation: Evaluation, step: int) -> None:
        parts, progress = self.parts, self.progress
        metrics = evaluation.metrics
        if self.metric not in metrics:
            known = ", ".join(metrics)
            raise UserError(
                f"{self.metric!r} has no value on the validation split (of one class, for example)",
                where="evaluate.metric",
                found=known,
                hint="Choose one of them.",
            )
        score = metrics[self.metric]
        if score.higher_is_better is None:
            raise UserError(
                f"{self.metric!r} cannot choose a checkpoint: it is neither better high nor better low", where="evaluate.metric",
                expected=f"one of {', '.join(name for name in metrics if metrics[name].higher_is_better is not None)}",
                hint="Choose another.",
            )  # fmt: skip
        is_best = progress.judge(score, metrics["loss"], step)
        epoch = parts.plan.samples_before(step) / parts.plan.num_rows
        train_loss = progress.loss_sum / max(1, progress.loss_steps)
        progress.history.append({
            "step": step, "samples": progress.samples, "epoch": epoch, "train_loss": train_loss,
            "validation_loss": metrics["loss"], "score": score, "is_best": is_best, "metrics": dict(metrics),
        })  # fmt: skip
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self._track({"step": step, "epoch": round(epoch, 4), "split": VALIDATION, **metrics})
        self.reporter.evaluated(evaluation, step, is_best=is_best, metric=self.metric)

    def _should_stop_early(self) -> bool:
        patience = self.config.train.early_stopping
        self.progress.stopped_early = patience is not None and self.progress.num_bad_evaluations >= patience
        return self.progress.stopped_early

    def _track(self, record: dict[str, Any]) -> None:
        if self.is_main:
            self._require_folder()
        for tracker in self.trackers:
            tracker.write(record)

    # What is written and read back

    def _save(self) -> None:
        if self.is_main:
            self._require_folder()
            with saving(), phase("saving a checkpoint"):
                checkpoints.save(self.checkpoints, self.parts.model, self.parts.optimizer, self._state())
            self._prune()

    def _save_state(self) -> None:
        """What an evaluation told, into the checkpoint that was saved before it."""
        if self.is_main:
            self._require_folder()
            checkpoints.save_state(self.checkpoints, self._state())
            self._prune()

    def _state(self) -> dict[str, Any]:
        state = {**self.progress.as_dict(), "origin": self.origin, "environment": self._environment()}
        state |= {"metrics_file": state_of(self.folder / METRICS), "config": self._resolved()}
        state |= {"beginnings": self.beginnings}
        return state if self.is_judged else {**state, "evaluate_again": True}

    def _prune(self) -> None:
        progress = self.progress
        checkpoints.prune(
            self.checkpoints, keep=self.config.train.keep_checkpoints, step=progress.step, best_step=progress.best_step
        )

    def _resume(self) -> Progress:
        """Take up the newest whole checkpoint, if there is one."""
        found = checkpoints.newest(self.checkpoints, self.reporter.note)
        if found is None:
            if any(self.checkpoints.glob("step-*")):
                self.reporter.note("No complete checkpoint found: training starts from the beginning.")
            return Progress()
        manifest = self.parts.prepared.manifest
        check_origin(found.state.get("origin", {}), self.origin, folder=self.folder, manifests=manifests_of(manifest))
        self._check_kept(found.state)
        try:
            checkpoints.load_model(found, self.parts.model)
        except checkpoints.CheckpointDamaged as damage:
            raise UserError(
                f"this run cannot be resumed: {damage}",
                where=str(found.folder),
                found=f"model {self.config.model.name}",
                hint="Restore the model it started from, or set output to a new folder.",
            ) from None
        checkpoints.load_optimizer(found, self.parts.model, self.parts.optimizer)
        progress = Progress(**{name: found.state[name] for name in vars(Progress())})
        progress.history = history_of(progress.history)
        self.is_judged = not found.state.get("evaluate_again", False)
        self.beginnings = found.state.get("beginnings", {})
        num_steps = self.parts.plan.num_steps
        self.reporter.note(f"Resuming after step {progress.step:,} of {num_steps:,} ({found.folder}).")
        for line in differences(found.state["environment"], self._environment()):
            self.reporter.note(f"{line}: the result will not be bit-identical to an uninterrupted run.")
        if progress.best_step is not None and not checkpoints.folder_of(self.checkpoints, progress.best_step).is_dir():
            progress.best_score = progress.best_loss = progress.best_step = None  # judged again by what comes
        return progress

    def _check_kept(self, state: Mapping[str, Any]) -> None:
        """What this run was settled by and wrote until the checkpoint, as the checkpoint knows it. UserError for another config."""
        check_settled(state.get("config"), self._resolved(), folder=self.folder)
        if not is_known(self.folder / METRICS, state.get("metrics_file")):
            self.reporter.note(
                f"{self.folder / METRICS} has changed since this run wrote it; it is kept, and new records are appended."
            )

    def _write_beginnings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        unseal(self.folder)  # a shorter run was finished: this one is not
        resolved = yaml.safe_dump({"schema": SCHEMA, **self._resolved()}, sort_keys=False, allow_unicode=True)
        write_whole(self.folder / "config.yaml", resolved)
        data = self.config.data
        for paths in (data.train, data.validation, data.test):
            keep_in_run([paths] if isinstance(paths, str) else paths or (), self.folder)
        write_json(self.folder / "ledger.json", self.parts.prepared.manifest["ledger"])
        rejected = self.parts.prepared.store.folder / "rejected.jsonl"
        if rejected.is_file():
            with rejected.open("rb") as source, whole_file(self.folder / "rejected.jsonl") as sink:
                shutil.copyfileobj(source, sink)
        self.beginnings = save_beginning(self.folder, self.parts, self.beginnings)

    def _environment(self) -> dict[str, Any]:
        return describe(self.parts.execution.name)

    def _resolved(self) -> dict[str, Any]:
        """The config with what `auto` became, and the folder, so that config.yaml alone resumes the run."""
        values, parts = self.config.as_dict(), self.parts
        values["train"] |= {
            "precision": parts.execution.precision,
            "learning_rate": parts.rates[0],
            "head_learning_rate": parts.rates[1],
            "micro_batch_tokens": parts.execution.token_budget,
        }
        return {**values, "task": {**values["task"], "name": parts.task.name}, "output": str(self.folder)}

    def _open_trackers(self) -> list[Any]:
        trackers: list[Any] = [
            MetricsFile(self.folder / METRICS, from_step=self.progress.step, evaluated=self.is_judged)
        ]
        if "tensorboard" in self.config.train.log_to:
            trackers.append(TensorBoard(self.folder / "tensorboard", from_step=self.progress.step))
        return trackers

    # The end

    def _finish(self) -> RunResult:
        """Take the best weights and write them, score validation and test, complete the model. Other ranks only help with scoring.

        Whatever fails on the way leaves a model that can be used, and the same command goes on from here.
        """
        best = self.progress.best_step
        if best is not None and best != self.progress.step:
            self._load_best(best)
        self.parts = replace(self.parts, task=self.parts.task.finish_model(self.parts.model))
        if self.is_main:
            self._require_folder()
            with self._behind_last_step("writing the model"), phase("writing the model"):
                save_weights(self.folder, self.parts)
            self.is_saved = True
        with self._behind_last_step("the final evaluation"):
            scores, golden_texts = self._final_scores()
        with self._behind_last_step("judging the run"):
            judged = self._verdict(scores)
        result = RunResult(self.folder, scores, judged, self.progress.history, self.progress.step)
        if self.is_main:
            with self._behind_last_step("completing the model"), phase("computing golden examples"):
                save_trained(self.folder, self.parts, golden_texts)
            with self._behind_last_step("writing the scores"):
                _write_scores(result, self)
        self.reporter.finished(result)
        return result

    def _verdict(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        constant: dict[str, float] = next(iter(scores.get(VALIDATION, {}).get("baseline", {}).values()), {})
        baseline = constant.get("log_loss", constant.get("loss"))
        limited_by = "train.max_steps" if self.parts.plan.is_cut else "train.epochs"
        validated = VALIDATION in self.parts.prepared.store.splits
        judged = verdict(
            points_of(self.progress.history), baseline_loss=baseline, limited_by=limited_by, validated=validated
        )
        of_split = scores.get(TEST) or scores.get(VALIDATION) or {}
        score = of_split.get("metrics", {}).get(self.metric)
        if score is not None and score.higher_is_better is not None:
            found = as_good_a_baseline(of_split, self.metric, higher_is_better=score.higher_is_better)
            judged = replace(judged, baseline=found)
        return asdict(judged)

    @contextmanager
    def _behind_last_step(self, what: str) -> Iterator[None]:
        """Say what is left of the run when this step of its end fails; the failure itself is said by who catches it."""
        try:
            yield
        except Exception:  # whatever fails, the user must know that the weights are safe; it is raised again
            if self._what_is_gone():
                raise
            model = (
                self.folder / "model" if self.is_saved else checkpoints.folder_of(self.checkpoints, self.progress.step)
            )
            again = hints.train(self.folder / "config.yaml")
            self.reporter.note(
                f"Training is complete and the weights are saved in {model}, but {what} failed (reason below). "
                f"After fixing that, this command finishes the run without training again: {again}"
            )
            raise

    def _final_scores(self) -> tuple[dict[str, Any], list[golden_examples.GoldenText] | None]:
        """(scores of validation and test, golden texts); the texts of rows are read in one pass, by the main process alone."""
        parts, config = self.parts, self.config
        scores: dict[str, Any] = {}
        for name in (VALIDATION, TEST):
            if name in parts.prepared.store.splits:
                rows = parts.prepared.store[name]
                evaluation = evaluate_split(
                    parts.model,
                    parts.task,
                    rows,
                    parts.encoder,
                    execution=parts.execution,
                    intervals=True,
                    plugins=config.evaluate.metrics,
                )
                worst = parts.task.worst(evaluation.scores, rows, config.evaluate.worst_rows)
                scores[name] = report.split_scores(
                    evaluation,
                    worst,
                    unit=parts.task.stored_as,
                    num_kept=kept_rows(parts.prepared.manifest["ledger"], name),
                    num_not_selected=not_selected_rows(parts.prepared.manifest["ledger"], name),
                )
        if not self.is_main:
            return scores, None
        choice = golden_examples.Choice(parts.prepared.store, parts.task, parts.encoder)
        can_read = report.complete(scores, config, parts.prepared, parts.task, self.reporter.note, others=[choice])
        return scores, choice.texts() if can_read else None

    def _load_best(self, step: int) -> None:
        try:
            best = checkpoints.verify(checkpoints.folder_of(self.checkpoints, step))
            self._require_own(best.state)
            checkpoints.load_model(best, self.parts.model)
        except checkpoints.CheckpointDamaged as damage:
            self.reporter.note(f"The best checkpoint (step {step}) is damaged ({damage}); the last weights are used.")
            self.progress.best_step = None

    def _require_own(self, state: Mapping[str, Any]) -> None:
        """CheckpointDamaged for the checkpoint of another run."""
        try:
            manifest = self.parts.prepared.manifest
            check_origin(state.get("origin", {}), self.origin, folder=self.folder, manifests=manifests_of(manifest))
            check_settled(state.get("config"), self._resolved(), folder=self.folder)
        except UserError:
            raise checkpoints.CheckpointDamaged("it belongs to another run") from None

    def _finished_before(self) -> RunResult:
        for name in changed_run_files(self.folder):
            self.reporter.note(said(self.folder, name))
        facts = read_json(self.folder / "scores.json", having=("splits", "verdict", "history", "num_steps"))
        try:
            manifest = prepare(self.config).manifest
        except UserError:  # the files may be gone; a finished run stands without them
            manifest = None
        now = {} if manifest is None else {"rows": hash_of_rows(manifest)}
        check_origin(
            facts.get("origin", {}), now, folder=self.folder, manifests=manifests_of(manifest) if manifest else ()
        )
        result = RunResult(
            self.folder, facts["splits"], facts["verdict"], history_of(facts["history"]), facts["num_steps"], True
        )
        self.reporter.finished(result)
        return result


def _write_scores(result: RunResult, run: Run) -> None:
    """scores.json, and a manifest of what the run leaves: from now on it is finished."""
    facts = {"schema": 1, "task": run.parts.task.name, "metric": run.metric, "num_steps": result.num_steps}
    facts |= {"best_step": run.progress.best_step, "splits": result.scores, "verdict": result.verdict}
    facts |= {"history": result.history, "origin": run.origin, "environment": run._environment()}
    seal(run.folder, facts)
