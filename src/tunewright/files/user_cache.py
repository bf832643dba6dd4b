"""The user's cache folder (XDG_CACHE_HOME or ~/.cache), and what a machine was told once.

is_first_time("case", sha256_of_a_tokenizer)     True, and from then on False

What stands there may be lost: then something is computed, or said, once more.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Our folder in the user's cache, which need not exist yet; None where the user has none."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError:  # nobody knows the home
        return None
    return root / "tunewright"


def is_first_time(*what: str) -> bool:
    """Whether this is asked for the first time on this machine; always, where that cannot be remembered."""
    folder = cache_folder()
    if folder is None:
        return True
    mark = folder / "told" / hashlib.sha256("\0".join(what).encode()).hexdigest()[:32]
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.open("x").close()
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
