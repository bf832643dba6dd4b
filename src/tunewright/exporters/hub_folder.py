"""A folder ready for upload: the merged model and a README.md with its purpose, data and scores.

The card has numbers and names of files, but no row of the data; the golden examples stay with the run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunewright import __version__
from tunewright.artifacts import golden_examples
from tunewright.artifacts.model_folder import SavedModel
from tunewright.artifacts.run_files import changed_run_files
from tunewright.config.load import load_config
from tunewright.errors import UserError
from tunewright.exporters import merged
from tunewright.files.atomic import read_json, write_whole
from tunewright.files.manifests import NO_CHECK, refuse_changed
from tunewright.tasks.base import Task

DTYPES = merged.DTYPES
_METRICS_SHOWN = 12
_DESCRIBED = ("config.yaml", "scores.json", "ledger.json")
"""Files that the card is written from."""
_PATHS = ("train", "validation", "test")


def write(saved: SavedModel, folder: Path, *, dtype: str) -> None:
    run = saved.folder.parent
    changed = [name for name in changed_run_files(run, remember=False) if name in _DESCRIBED]
    for name in changed:
        refuse_changed(
            run,
            name,
            hint=f"The model card would not describe the run. Restore the file, or export anyway: {NO_CHECK}.",
        )
    try:
        text = card(saved, changed)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:  # only if files have changed since they were written
        raise UserError(
            f"no model card can be written from its {', '.join(_DESCRIBED)} ({type(error).__name__}: {error})",
            where=str(run),
            hint="Restore them, or export it with --to merged.",
        ) from None
    merged.write(saved, folder, dtype=dtype)
    (folder / golden_examples.FILE).unlink(missing_ok=True)
    write_whole(folder / "README.md", text)


def card(saved: SavedModel, changed: Sequence[str] = ()) -> str:
    """README.md: front matter for the Hub, then one section each on use, data, scores, training and limits.

    changed: files that have changed since the run wrote them; the card names them.
    """
    run = saved.folder.parent
    config = load_config(run / "config.yaml", of_run=True).as_dict() if (run / "config.yaml").is_file() else {}
    scores, ledger = (read_json(run / name) if (run / name).exists() else {} for name in ("scores.json", "ledger.json"))
    task = saved.task()
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": task.pipeline,
        "tags": ["tunewright"],
    }
    base = str(config.get("model", {}).get("name", ""))
    if "/" in base and not Path(base).exists() and ":" not in base:
        front["base_model"] = base
    sections = [
        f"---\n{yaml.safe_dump({key: value for key, value in front.items() if value}, sort_keys=False)}---",
        f"# {run.resolve().name}",
        f"A {task.name} model, trained with tunewright {__version__} from {_base_name(base)}.",
        _use(saved, task),
        _data(config, ledger, scores),
        _scores(scores),
        _training(config, scores),
        _limits(saved, scores, ledger, changed),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _base_name(base: str) -> str:
    return f"`{Path(base).name}`" if base.startswith(("/", ".", "~")) else f"`{base}`"


def _use(saved: SavedModel, task: Task) -> str:
    lines = ["## Use", "", "```python", "from transformers import pipeline", ""]
    sample = saved.sample
    given = sample if isinstance(sample, str) else {"text": sample[0], "text_pair": sample[1]}
    lines += [f'model = pipeline("{task.pipeline}", model="PATH OR HUB ID")', f"model({json.dumps(given)})", "```"]
    if labels := task.known_names:
        shown = ", ".join(f"`{label}`" for label in labels[:100])
        lines += ["", f"{len(labels)} names, in this order: {shown}{', …' if len(labels) > 100 else ''}."]
    return "\n".join(lines) if task.pipeline else ""


def _data(config: dict[str, Any], ledger: dict[str, Any], scores: dict[str, Any]) -> str:
    lines = ["## Data", "", "| file | read | kept | rejected | filtered | not selected |", "|---|---|---|---|---|---|"]
    for source in ledger.get("sources", ()):
        counts = " | ".join(
            f"{source.get(key, 0):,}" for key in ("read", "kept", "rejected", "filtered", "not_selected")
        )
        name = source.get("name", source.get("source", ""))
        lines.append(f"| {name if str(name).startswith('hub:') else Path(str(name)).name} | {counts} |")
    rows = ", ".join(f"{split} {found['rows']:,}" for split, found in scores.get("splits", {}).items())
    seed = config.get("train", {}).get("seed")
    return "\n".join([*lines, "", f"Rows of the splits that were scored: {rows or 'none'}. Seed {seed}."])


def _scores(scores: dict[str, Any]) -> str:
    lines = ["## Scores", ""]
    for split, found in scores.get("splits", {}).items():
        lines += [f"### {split}", "", "| metric | value | 95 % interval | simple baseline |", "|---|---|---|---|"]
        baselines = sorted(found.get("baseline", {}).items(), key=lambda item: item[0] == "majority")
        simple, known = baselines[0] if baselines else ("", {})
        for name, value in list(found["metrics"].items())[:_METRICS_SHOWN]:
            interval = found.get("intervals", {}).get(name)
            bounds = f"{interval[0]:.4f} to {interval[1]:.4f}" if isinstance(interval, (list, tuple)) else ""
            other = known.get(name)
            beside = f"{other:.4f} ({simple})" if isinstance(other, (int, float)) else ""
            lines.append(f"| {name} | {value:.4f} | {bounds} | {beside} |")
        lines.append("")
    return "\n".join(lines).rstrip() if scores.get("splits") else ""


def _training(config: dict[str, Any], scores: dict[str, Any]) -> str:
    """The config, with only the names of its files."""
    shown = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items() if key != "output"}
    for key in _PATHS:
        value = shown.get("data", {}).get(key)
        if value is not None:
            shown["data"][key] = [Path(one).name for one in value] if isinstance(value, list) else Path(value).name
    if "model" in shown:
        shown["model"]["name"] = _base_name(str(shown["model"].get("name", ""))).strip("`")
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return f"## Training\n\n{scores.get('num_steps', 0):,} steps.\n\n```yaml\n{text}```"


def _limits(saved: SavedModel, scores: dict[str, Any], ledger: dict[str, Any], changed: Sequence[str]) -> str:
    lines = ["## Limits", "", f"- At most {saved.facts['encode']['max_length']} tokens of a text are read."]
    verdict = scores.get("verdict", {})
    if verdict:
        lines.append(f"- {verdict['kind'].capitalize()}: {verdict['reason']}")
    shared = {split: count for split, count in ledger.get("shared_with_train", {}).items() if count}
    lines += [f"- {count:,} {split} rows have a text that is also in train." for split, count in shared.items()]
    lines += [
        f"- {name} has changed since the run wrote it, so the statements here that are based on it are not verified."
        for name in changed
    ]
    lines.append("- The scores apply to texts like those above; nothing else was measured.")
    return "\n".join(lines)
