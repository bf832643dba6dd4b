"""transformers without its progress bars, load reports and warnings: we say ourselves what matters.

with quiet_transformers():
    model = AutoModel.from_pretrained(folder)
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bar, load report and warnings among libraries: we say ourselves which parameters start fresh."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(
        logging.ERROR
    )  # it misses kernels that are not used here
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
