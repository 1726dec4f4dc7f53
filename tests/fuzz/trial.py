"""A trial: a thing as an attacker or a bad disk would leave it, what uses it, and the outcome."""

import contextlib
import resource
import signal
import sys
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from vtcav.errors import VtcavError

SECONDS = 5.0
"""The most processor time of a try: other processes count in what a clock shows."""
WAITED = 30.0
"""The longest wait, of which a pipe that nobody writes to makes no processor time."""
MEGABYTES = 500

RIGHT, REFUSED = "right", "refused"


@dataclass(frozen=True)
class Trial:
    """One try.

    Attributes:
        what: What was done to the thing.
        use: Uses it; asserts what has to be true of an answer.
        names: A refusal has to name one of these: the file, the folder or the field.
    """

    what: str
    use: Callable[[], object]
    names: tuple[str, ...]


class Kind(ABC):
    """A kind of things to be tried.

    Args:
        folder: An empty folder for files.
    """

    name: str
    """Its name."""
    share = 1.0
    """How many tries the short run makes of it: fewer where each takes long."""
    needs: tuple[str, ...] = ()
    """Modules without which it cannot be tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def trial(self, random: Random) -> Trial:
        """Return a trial that these random numbers decide."""


class SlowError(BaseException):
    """It took too long. No `except Exception` may keep it."""


def outcome(trial):
    """Return RIGHT, REFUSED, or what is wrong."""
    _forget_peak()
    before = _peak()
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial.use()
        found = RIGHT
    except VtcavError as error:
        found = REFUSED
        if not any(name in str(error) for name in trial.names):
            found = f"names none of {trial.names}: {error}"
    except SlowError:
        found = f"longer than {SECONDS:g} s, or waits for ever"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:200]
        found = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {text}"
    grown = _peak() - before
    if found in (RIGHT, REFUSED) and grown > MEGABYTES:
        return f"{grown:.0f} MB more"
    return found


def trial_of(kind, seed, number):
    """Return a trial by its number."""
    return kind.trial(Random(f"{seed} {kind.name} {number}"))


@contextlib.contextmanager
def _limited():
    def ring(*_):
        raise SlowError

    clocks = (
        (signal.SIGALRM, signal.ITIMER_REAL, WAITED),
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
    )
    before = [signal.signal(number, ring) for number, _, _ in clocks]
    try:
        for _, clock, seconds in clocks:
            signal.setitimer(clock, seconds)
        yield
    finally:
        for (number, clock, _), handler in zip(clocks, before, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


def _forget_peak():
    """Begin anew to record the most memory, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak():
    """Return the most memory that this process had, in MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
