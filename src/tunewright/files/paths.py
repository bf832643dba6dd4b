"""Paths as people write them: `~` and `$NAME` mean the same in a config, on the command line and in Python.

    expanded("~/runs/$NAME")        "/home/ann/runs/reviews"

A shell writes them out in unquoted words only; a config's values, quoted words and `key=~/x` come as they were typed.
"""

from __future__ import annotations

import os
import re

from tunewright.errors import UserError

_NO_PATHS = ("hub:", "package:", "scratch:")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")


def expanded(path: str) -> str:
    """The path with its home folder and variables written out. A file whose own name holds a `$` or begins with `~` is taken as it is.

    UserError for a variable that is not set, and for a user that has no home folder.
    """
    if path.startswith(_NO_PATHS):
        return path
    at_home = path == "~" or path.startswith("~/")
    if not at_home and os.path.lexists(path):
        return path
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UserError(
            "the home folder of this user is unknown",
            where=path,
            hint="Write the full path; if the file name itself begins with ~, write ./~name.",
        )
    return _VARIABLE.sub(lambda match: _value_of(match[1] or match[2], path), found)


def _value_of(name: str, path: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise UserError(
            f"the environment variable {name} is not set", where=path, hint="Set it, or write the full path."
        )
    return value
