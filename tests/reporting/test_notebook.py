"""A notebook shows progress while it trains, lines for what was decided, and tables for what it got."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import messages, write_jsonl

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

SOURCES = Path(__file__).parents[2] / "src"


@pytest.mark.slow
def test_a_notebook_shows_progress_lines_and_tables(tiny_bert, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "m.jsonl", messages(120))
    train = (
        "import tunewright as tw\n"
        "from tunewright.reporting import display as displays\n"
        "displays._SHOWN_AFTER_SECONDS = 0.0\n"
        "displays.NotebookDisplay._every = 0.05\n"
        f"run = tw.train('m.jsonl', model={str(tiny_bert)!r}, train={{'epochs': 2}}, output='run')"
    )
    cells = [train, "run", "run.predict(['hello there'])", "tw.train('m.jsonl', output='run2', model=" + repr(str(tiny_bert))
             + ", train={'max_steps': 1}, progress=False); None"]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    monkeypatch.setenv("PYTHONPATH", f"{SOURCES}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    kernels = tmp_path / "kernels" / "kernels" / "own"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], "display_name": "own", "language": "python"}}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "kernels"))
    shown: list[str] = []

    class Watching(nbclient.NotebookClient):
        def process_message(self, message, cell, cell_index):
            html = message["content"].get("data", {}).get("text/html", "") if message["content"] else ""
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append(html)
            return super().process_message(message, cell, cell_index)

    Watching(notebook, timeout=200, kernel_name="own", resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, run, predictions, silent = (cell["outputs"] for cell in notebook.cells)
    printed = "".join(one.get("text", "") for one in first)
    assert "task      classification" in printed and "validation after step" in printed
    assert any("<progress" in html and "training" in html for html in shown), shown[:5]
    assert not any("<progress" in str(one) for one in first), "the bar goes away"
    assert any("<table" in one["data"].get("text/html", "") for output in (run, predictions) for one in output)
    assert silent == []
