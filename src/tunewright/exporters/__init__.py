"""Exports of a trained run for other programs. One file per kind, found by its name; every export can be verified.

export("runs/reviews-3fa9c1", "merged", dtype="bf16")       RUN/exports/merged
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

from tunewright.artifacts.model_folder import Run, SavedModel, open_saved
from tunewright.errors import UserError, suggestion
from tunewright.files.atomic import refused, whole_folder
from tunewright.files.manifests import MANIFEST, listed_files, refuse_changed, unchecked, write_manifest
from tunewright.files.paths import expanded
from tunewright.plugins import find, known, names, trust
from tunewright.reporting.phases import phase

ONNX_FACTS = "onnx.json"
DTYPES = ("fp32", "bf16", "fp16")


def kinds() -> list[str]:
    return [name.replace("_", "-") for name in names("exporters")]


def export(
    run: Run, to: str, *, output: str | Path | None = None, dtype: str = "fp32", check: bool = True,
    plugins: Iterable[str] = (), say: Callable[[str], object] = lambda _: None,
) -> Path:  # fmt: skip
    """Export a run in the format `to` (merged, onnx, hub-folder). Returns the folder. UserError for problems that the user can fix.

    check: verify first that the saved files have not changed. say: called with other changes of the run's files.
    plugins: modules of your own whose code may run, if the run's task or adapter is one.
    """
    trust(plugins)
    saved = open_saved(run)
    name = next((one for one in names("exporters") if one.replace("_", "-") == to), to)
    if not known("exporters", name):
        raise UserError(
            f"no export {to!r}",
            where="--to",
            expected=", ".join(kinds()),
            hint=suggestion(to, kinds()),
        )
    if saved.unmerged:
        raise UserError(
            f"a {saved.unmerged} adapter cannot be merged into a plain model",
            where=str(saved.folder),
            found=f"adapter={saved.unmerged}",
            hint="Use RUN/adapter on RUN/base with peft, or train with adapter=lora.",
        )
    if check and not (saved.folder / MANIFEST).exists():
        refuse_changed(saved.folder, MANIFEST)
    if check:
        saved.check(remember=False, say=say)
    folder = Path(expanded(str(output))) if output else saved.folder.parent / "exports" / to
    if folder.exists() and not _is_export(folder):
        raise UserError("the folder holds other files", where=str(folder), hint="Choose another one with -o.")
    if reason := refused(folder):
        raise UserError(
            f"the folder cannot be created ({reason})", where=str(folder), hint="Choose another one with -o."
        )
    module = find("exporters", name)
    if dtype not in module.DTYPES:
        raise UserError(f"{to} cannot be {dtype}", where="--dtype", expected=", ".join(module.DTYPES))
    with whole_folder(folder) as inside:
        with nullcontext() if check else unchecked(), phase(f"exporting to {to}"):
            module.write(saved, inside, dtype=dtype)
        write_manifest(inside)
    return folder


def kept_files(saved: SavedModel) -> Iterator[Path]:
    """Files of a saved model that an export includes: those in its manifest; no links to files outside."""
    listed = listed_files(saved.folder)
    for file in sorted(saved.folder.iterdir()):
        if file.is_file() and file.name != MANIFEST and (file.name in listed if listed else not file.is_symlink()):
            yield file


def _is_export(folder: Path) -> bool:
    """Whether a folder contains an export (or nothing), so that another export may replace it."""
    if (folder / ONNX_FACTS).is_file():
        return True
    try:
        saved = open_saved(folder)
        return saved.folder == folder and "export" in saved.facts
    except UserError:
        return folder.is_dir() and not any(folder.iterdir())
