"""A trained run in the form that another program reads. One file a form, found by its name; every export can be verified.

export_run("runs/reviews-3fa9c1", "merged", dtype="bf16")       RUN/exports/merged
"""

from __future__ import annotations

from pathlib import Path

from tunewright import hints
from tunewright.atomic import refused, whole_folder
from tunewright.errors import UserError, did_you_mean
from tunewright.plugins import find, names
from tunewright.saved import changed_files, open_saved, write_manifest

ONNX_FACTS = "onnx.json"
DTYPES = ("fp32", "bf16", "fp16")


def kinds() -> list[str]:
    return [name.replace("_", "-") for name in names("export")]


def export_run(run: str | Path, to: str, *, output: str | Path | None = None, dtype: str = "fp32") -> Path:
    """Write a run as `to` says (merged, onnx, hub-folder). UserError for what the user can mend. Gives the folder."""
    saved = open_saved(run)
    if to not in kinds():
        near = did_you_mean(to, kinds())
        raise UserError(
            f"no export {to!r}",
            where="--to",
            expected=", ".join(kinds()),
            mend=f"Did you mean {near}?" if near else None,
        )
    if saved.unmerged:
        raise UserError(
            f"a {saved.unmerged} adapter cannot be merged into a plain model",
            where=str(saved.folder),
            found=f"adapter={saved.unmerged}",
            mend="Use RUN/adapter on RUN/base with peft, or train with adapter=lora.",
        )
    if changed := changed_files(saved.folder):
        raise UserError(
            "not what was saved here: a file is gone, has changed or came later", where=str(saved.folder / changed[0]),
            mend=f"Restore or remove it, or train again; `{hints.verify(saved.folder)}` says more.",
        )  # fmt: skip
    folder = Path(output) if output else saved.folder.parent / "exports" / to
    if folder.exists() and not _is_export(folder):
        raise UserError("the folder holds something else", where=str(folder), mend="Choose another one with -o.")
    if reason := refused(folder):
        raise UserError(
            f"no folder can be made there ({reason})", where=str(folder), mend="Choose another one with -o."
        )
    module = find("export", to.replace("-", "_"))
    if dtype not in module.DTYPES:
        raise UserError(f"{to} cannot be {dtype}", where="--dtype", expected=", ".join(module.DTYPES))
    with whole_folder(folder) as inside:
        module.write(saved, inside, dtype=dtype)
        write_manifest(inside)
    return folder


def _is_export(folder: Path) -> bool:
    """Whether a folder holds what an export wrote, and nothing is lost when another takes its place."""
    if (folder / ONNX_FACTS).is_file():
        return True
    try:
        saved = open_saved(folder)
        return saved.folder == folder and "export" in saved.facts
    except UserError:
        return folder.is_dir() and not any(folder.iterdir())
