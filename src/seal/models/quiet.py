"""transformers and the hub without their bars and warnings."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_log
from transformers.utils import logging as log


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what transformers and the hub print, unless the logger `seal` is at DEBUG. What they raise is raised."""
    if logging.getLogger("seal").isEnabledFor(logging.DEBUG):
        yield
        return
    level, hub_level = log.get_verbosity(), hub_log.get_verbosity()
    bars, hub_bars = log.is_progress_bar_enabled(), not are_progress_bars_disabled()
    log.set_verbosity_error()
    hub_log.set_verbosity_error()
    log.disable_progress_bar()
    disable_progress_bars()
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF reader's bar has no switch
            yield
    finally:
        log.set_verbosity(level)
        hub_log.set_verbosity(hub_level)
        if bars:
            log.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()
