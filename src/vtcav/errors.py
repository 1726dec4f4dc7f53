"""The errors that vtcav raises, as one tree, and the way it warns.

```
VtcavError
├── ModelError            the network cannot be used as asked
│   └── LayerError        a layer is unknown, bypassed or of an unusable shape
├── ImageError            an image, or all images of a source, cannot be read
├── ConceptError          a concept or its negatives cannot be used
├── DatasetError          a data set lacks the images, labels or masks asked for
├── CavError              a bank of CAVs does not fit the network, layer or preprocessing
├── ExplanationError      an explanation cannot be computed, saved or loaded as asked
├── StudyError            a study's file is wrong; the message has the line (in vtcav.study)
├── ExtraError            an optional package is needed and not installed
├── PathError             the system does not let a path be looked up
└── SystemLimitError      the system gives no more files, which is no image's fault
```

Every message says what was expected, what was found instead and what to do.
"""

import contextlib
import errno
import inspect
import os
import re
import warnings
from collections.abc import Sized
from contextvars import ContextVar
from pathlib import Path

SUBJECT: ContextVar[str] = ContextVar("SUBJECT", default="")
"""The file that is being read, which warnings of other packages do not name."""

# Frames that a warning passes over on its way to the user's code.
_INNER = (f"{Path(__file__).parent}{os.sep}", contextlib.__file__)
_BRIEF = 160  # letters
_NUMBER = re.compile(r"\[(?:Errno|WinError) -?\d+\] ")


class VtcavError(Exception):
    """The root of every error that vtcav raises on purpose."""


class ModelError(VtcavError):
    """The network, its output or its class names cannot be used as asked."""


class LayerError(ModelError):
    """A layer is unknown, is bypassed by another path, or has no feature maps."""


class ImageError(VtcavError):
    """An image, or every image of a source, cannot be read."""


class ConceptError(VtcavError):
    """A concept or its negatives cannot be used: too few examples, a missing set, a bad name."""


class DatasetError(VtcavError):
    """A data set cannot be read as images by label: a wrong column, label, box or mask."""


class CavError(VtcavError):
    """A bank of CAVs cannot be loaded, or was made for another network, layer or preprocessing."""


class ExplanationError(VtcavError):
    """An explanation cannot be computed, saved or loaded as asked."""


class ExtraError(VtcavError):
    """A feature needs an optional package that is not installed."""


class PathError(VtcavError):
    """The system does not let a path be looked up, as in a folder of another user."""


class SystemLimitError(VtcavError):
    """The system lets the process open no more files, which is the fault of no image."""


def brief(value: object) -> str:
    """Return a value for a message: as Python writes it, or what it is where that is long.

    Example:
        >>> brief("zebra"), brief(bytearray(500))
        ("'zebra'", 'bytearray of length 500')
    """
    text = repr(value)
    if len(text) <= _BRIEF and "\n" not in text:
        return text
    if isinstance(value, str):
        return f"{text[:_BRIEF]}..."
    kind = type(value).__name__
    if (shape := getattr(value, "shape", None)) is not None:
        return f"{kind} of shape {tuple(shape)}"
    return f"{kind} of length {len(value)}" if isinstance(value, Sized) else kind


def text_of(error: BaseException) -> str:
    """Return the text of an exception of other software, without the system's number.

    Example:
        >>> text_of(FileNotFoundError(2, "No such file or directory", "weights.pt"))
        "No such file or directory: 'weights.pt'"
    """
    return _NUMBER.sub("", str(error))


def why(error: BaseException) -> str:
    """Return what the system says of a file, without numbers and names of temporary files.

    The message names the file itself; of files that it cannot know, `text_of` keeps the names.

    Example:
        >>> why(PermissionError(13, "Permission denied", "/out/.table.csv-x7f"))
        'Permission denied'
    """
    return (isinstance(error, OSError) and error.strerror) or text_of(error)


def check_system(error: BaseException) -> None:
    """Refuse to take for a picture's fault what would befall the next picture as well.

    Raises:
        SystemLimitError: When the system opened no more files.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            raise SystemLimitError(
                f"the system opens no more files for this process ({cause.strerror}); raise the "
                "limit (ulimit -n), or close what holds them"
            ) from error
        cause = cause.__cause__ or cause.__context__


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points at the line outside of this package that led to it.

    Args:
        message: The warning's text.
        category: The warning's class.
    """
    frame = inspect.currentframe()
    while frame and frame.f_back and frame.f_code.co_filename.startswith(_INNER):
        frame = frame.f_back
    assert frame is not None  # CPython and PyPy know their frames
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
