"""`python -m vtcav`, and the program `vtcav`."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from typing import Any

from vtcav.cli import INTERRUPTED, main

_LATER = 0.05  # seconds


def program() -> int:
    """Run the command line, so that no Ctrl+C is lost; when the work is done, one changes nothing.

    Python prints what a weak reference's callback raises and goes on. An interruption at such a
    moment is repeated.
    """
    sys.unraisablehook = _repeat_interruption
    try:
        code = main()
    except KeyboardInterrupt:  # a second one, while the first was being told
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if any(thread.daemon for thread in threading.enumerate()):
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End the process at once: Python would abort it where a thread is inside of PyTorch."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def _repeat_interruption(found: Any) -> None:
    if isinstance(found.exc_value, KeyboardInterrupt):
        threading.Timer(_LATER, _interrupt).start()
    else:
        sys.__unraisablehook__(found)


def _interrupt() -> None:
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)  # also where it waits
    else:
        _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(program())
