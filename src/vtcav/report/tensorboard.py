"""Results in TensorBoard: numbers and figures through its standard writer.

```python
from torch.utils.tensorboard import SummaryWriter

with SummaryWriter("runs/audit") as writer:
    vtcav.report.tensorboard.log_explanation(writer, explanation, step=epoch)
```

With the number of the epoch as the step, one sees how what a network learns of a concept changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtcav.errors import ExplanationError
from vtcav.results.words import clear, distinct_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

    from vtcav.diagnostics.result import Diagnostics
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["log_diagnostics", "log_explanation"]


def log_explanation(
    writer: SummaryWriter,
    explanation: LocalExplanation | GlobalExplanation,
    step: int | None = None,
    *,
    tag: str = "vtcav",
    figure: bool = True,
) -> None:
    """Log an explanation: a scalar for every attribution, the figure, and the table as text.

    Scalars of an image are `TAG/attribution/LAYER/CONCEPT/CLASS`; of a class
    `TAG/mean/CLASS/LAYER/CONCEPT`, and `TAG/ci_low/...` and `TAG/ci_high/...` for the 95 % interval
    over images. A "/" in a name becomes "%2F", for TensorBoard groups by it. A number that is
    missing is not logged, and the table says why.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`, or one of the same methods.
        explanation: Of an image or a class.
        step: Of the training, for one.
        tag: What all tags begin with.
        figure: Whether to draw the figure, which takes a second or so.

    Raises:
        ExplanationError: For something else than an explanation, or no writer.
    """
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

    _check_writer(writer)
    if isinstance(explanation, LocalExplanation):
        table = explanation.attributions
        classes = table.drop_duplicates("class_index")
        names = dict(
            zip(classes["class_index"], distinct_names(classes["class_name"]), strict=True)
        )
        for row in table.to_dict("records"):
            place = (row["layer"], row["concept"], names[row["class_index"]])
            _scalar(writer, (tag, "attribution", *place), row["attribution"], step)
        title = "image"
    elif isinstance(explanation, GlobalExplanation):
        table = explanation.summary()
        for row in table.to_dict("records"):
            for kind in ("mean", "ci_low", "ci_high"):
                place = (explanation.class_name, row["layer"], row["concept"])
                _scalar(writer, (tag, kind, *place), row[kind], step)
        title = f"class/{_part(explanation.class_name)}"
    else:
        raise ExplanationError(
            "expected a LocalExplanation or a GlobalExplanation, got "
            f"{type(explanation).__name__}; diagnostics go to log_diagnostics"
        )
    _text(writer, f"{tag}/{title}", table, step)
    if figure:
        _figure(writer, f"{tag}/{title}", explanation.plot(), step)


def log_diagnostics(
    writer: SummaryWriter,
    diagnostics: Diagnostics,
    step: int | None = None,
    *,
    tag: str = "vtcav",
    figure: bool = True,
) -> None:
    """Log diagnostics: a scalar for every number found, the figure, and the levels as text.

    Scalars are `TAG/diagnostics/CHECK/LAYER/CONCEPT`, without what concerns no layer or concept.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`, or one of the same methods.
        diagnostics: What `VisualTCAV.diagnostics` returns.
        step: Of the training, for one.
        tag: What all tags begin with.
        figure: Whether to draw the figure.

    Raises:
        ExplanationError: For no writer.
    """
    _check_writer(writer)
    for row in diagnostics.table.to_dict("records"):
        place = tuple(part for part in (row["layer"], row["concept"]) if part)
        _scalar(writer, (tag, "diagnostics", row["check"], *place), row["value"], step)
    _text(writer, f"{tag}/diagnostics", diagnostics.summary(), step)
    if figure:
        _figure(writer, f"{tag}/diagnostics", diagnostics.plot(), step)


def _check_writer(writer: Any) -> None:
    missing = [m for m in ("add_scalar", "add_figure", "add_text") if not hasattr(writer, m)]
    if missing:
        raise ExplanationError(
            f"expected a torch.utils.tensorboard.SummaryWriter, got {type(writer).__name__}; it is "
            "made with SummaryWriter(FOLDER) and needs: pip install 'vtcav[tensorboard]'"
        )


def _scalar(writer: Any, tag: tuple[str, ...], value: Any, step: int | None) -> None:
    number = float(value)
    if number == number:
        writer.add_scalar("/".join([tag[0], *map(_part, tag[1:])]), number, step)


def _part(name: str) -> str:
    """Return a name as a part of a tag."""
    return clear(name).replace("/", "%2F")


def _text(writer: Any, tag: str, table: pd.DataFrame, step: int | None) -> None:
    """Log a table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    writer.add_text(tag, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    text = clear(value)
    for sign in "\\|`*_<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def _figure(writer: Any, tag: str, figure: Figure, step: int | None) -> None:
    # our figures belong to no window, so there is nothing to close
    writer.add_figure(tag, figure, step, close=False)
