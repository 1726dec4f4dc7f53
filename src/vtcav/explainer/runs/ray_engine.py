"""The Ray engine: parts computed by actors of Ray Data, on this machine or on a cluster.

Every actor makes its attributor once, computes one part after another and reads its images
itself. An actor that dies is started again, and its part is computed again.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from vtcav.errors import ExplanationError, ExtraError, VtcavError, text_of
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.runs.image_table import compute_parts
from vtcav.explainer.runs.part import Chunk, Part, Task
from vtcav.images.signature import signature
from vtcav.parameters import Whole, Words, check

if TYPE_CHECKING:
    from vtcav.images.progress import Progress
    from vtcav.models.base import Model


# Ray's own tasks, which read and write data, need a share of the processors too. If actors took
# whole processors, two actors on two processors would wait for ever.
_CPUS = 0.5

_RAISED = re.compile(r"[\w.]*(Error|Exception)\b.*: ")  # a traceback's line with the message


def engine_of(name: str, ray_options: Mapping[str, Any] | None = None) -> RayEngine | None:
    """Return an engine by name; None computes in this process.

    Args:
        name: "local" or "ray".
        ray_options: The attributes of `RayEngine` by name.

    Raises:
        ExplanationError: For an unknown name, or an option that is unknown or out of range.
        ExtraError: When Ray is asked for and not installed.
    """
    check("engine", name, Words("local", "ray"))
    if name == "local":
        if ray_options is not None:
            raise ExplanationError("ray_options go with engine='ray', not with 'local'")
        return None
    options = ray_options or {}
    known = [field.name for field in fields(RayEngine)]
    if unknown := [option for option in options if option not in known]:
        raise ExplanationError(
            f"unknown option {unknown[0]!r} of the Ray engine: expected {', '.join(known)}"
        )
    return RayEngine(**options)


@dataclass
class RayEngine:
    """Computes parts with actors of Ray Data. Use it as a context manager.

    It uses the runtime that the process is connected to, or joins the cluster at `address`, or
    starts a runtime on this machine and stops it at the end.

    Attributes:
        address: A cluster's address ("auto", "ray://host:10001", "host:6379"); None for this
            machine.
        workers: The number of actors; None for one per GPU, or per processor where there is none.
        num_cpus: Processors that Ray reserves for an actor, 0.5 by default. An actor computes
            with one thread unless OMP_NUM_THREADS says otherwise.
        num_gpus: GPUs of an actor, or a fraction of one; None for 1 where the cluster has any.
        model: A name for `load_model`, which the actors load themselves; None sends them the
            network.
        runtime_env: As `ray.init` takes it: packages, modules and variables of the actors.
    """

    address: str | None = None
    workers: int | None = None
    num_cpus: float = _CPUS
    num_gpus: float | None = None
    model: str | None = None
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _ray()
        self._started = False
        check("workers", self.workers, Whole(1), none="one per GPU or processor")
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ExplanationError(f"expected {name} to be a number from 0 on, got {value!r}")

    def __enter__(self) -> Self:
        """Join or start a runtime."""
        ray = _ray()
        if not ray.is_initialized():
            settings: dict[str, Any] = {"runtime_env": dict(self.runtime_env or {})}
            if self.address is None:
                # a runtime of our own, whatever RAY_ADDRESS is
                settings |= {"address": "local", "include_dashboard": False}
                settings["num_cpus"] = max(_processors(), self.workers or 1)
            else:
                settings["address"] = self.address
            try:
                ray.init(log_to_driver=False, logging_level=logging.WARNING, **settings)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = f"join the Ray cluster at {self.address!r}" if self.address else "start Ray"
                raise ExplanationError(f"cannot {where}: {text_of(error)}") from error
            self._started = True
        resources = ray.cluster_resources()
        if self.num_gpus is None:
            self.num_gpus = 1 if resources.get("GPU", 0) >= 1 else 0
        if self.workers is None:
            self.workers = max(1, int(resources.get("GPU" if self.num_gpus else "CPU", 1)))
        self._check_resources(resources)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the runtime that the engine started, or leave the cluster that it joined."""
        if self._started:
            _ray().shutdown()
            self._started = False

    @property
    def device(self) -> str:
        """The kind of device that computes."""
        return "cuda" if self.num_gpus else "cpu"

    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in the order in which they are done.

        Raises:
            ExplanationError: When the network cannot be sent, or the actors cannot work.
            VtcavError: As in this process.
        """
        ray = _ray()
        sizes = {chunk.number: len(chunk.refs) for chunk in chunks}
        payload = ray.put(_packed(task, self.model, self.device))
        items = ray.data.from_items(
            [{"chunk": pickle.dumps(chunk)} for chunk in chunks], override_num_blocks=len(chunks)
        )
        parts = items.map(
            _Worker,
            fn_constructor_args=(payload,),
            # one part at a time, or else the first actor that is up takes those of the others
            compute=ray.data.ActorPoolStrategy(
                size=min(self.workers or 1, len(chunks)), max_tasks_in_flight_per_actor=1
            ),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
        )
        with _quiet(ray):
            try:
                for row in parts.iter_rows():
                    number, part = _unpacked(row)
                    if progress is not None:
                        progress.advance(sizes[number])
                    yield number, part
            except ray.exceptions.RayError as error:
                raise ExplanationError(
                    f"the Ray actors cannot work: {_root_of(error)}. Do they "
                    "have vtcav, the network's modules and the images? ray_options' runtime_env "
                    "can bring modules, and model='python:MODULE:CALLABLE' has them load it"
                ) from error

    def _check_resources(self, resources: Mapping[str, float]) -> None:
        """Refuse actors that the cluster cannot start, which Ray would wait for in vain."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus or 0}
        for kind, each in wanted.items():
            there = resources.get(kind, 0)
            if each * (self.workers or 1) > there + 1e-9:
                self.__exit__()
                raise ExplanationError(
                    f"{self.workers} workers with {each:g} {kind} each do not fit into the "
                    f"{there:g} {kind} of the Ray runtime: ask for fewer, or for less each"
                )


class _Worker:
    """The code of an actor."""

    def __init__(self, payload: Any) -> None:
        self._payload = payload
        self._task: Task | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Compute one part. An error of vtcav is a result, so that Ray does not try again."""
        chunk: Chunk = pickle.loads(row["chunk"])
        try:
            if self._task is None:
                self._task = _task(_ray().get(self._payload))
            [(number, part)] = compute_parts(self._task, [chunk])
        except VtcavError as error:
            return {"number": chunk.number, "part": b"", "error": pickle.dumps(error)}
        return {"number": number, "part": pickle.dumps(part), "error": b""}


def _root_of(error: BaseException) -> str:
    """Return the message of the error that came first.

    It is in the traceback within the text of Ray's error, before other errors and advice.
    """
    lines = str(error).strip().splitlines()
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines[-1:] or [type(error).__name__])[0]


def _packed(task: Task, name: str | None, device: str) -> bytes:
    """Return what an actor needs to make its task."""
    from ray import cloudpickle

    attributor = task.attributor
    recipe = {
        "model": name or attributor.model,
        "device": device,
        "cavs": attributor.cavs,
        "settings": attributor.settings,
        "erasure": attributor.erasure,
        "precision": attributor.precision,
        "task": type(task),
        "more": {f.name: getattr(task, f.name) for f in fields(task) if f.name != "attributor"},
    }
    try:
        packed: bytes = cloudpickle.dumps(recipe)  # type: ignore[no-untyped-call]  # Ray is untyped
    except Exception as error:
        raise ExplanationError(
            f"the network cannot be sent to the Ray actors ({type(error).__name__}: "
            f"{text_of(error)}); write a function that returns it and have them load it "
            "themselves: ray_options={'model': 'python:MODULE:CALLABLE'}"
        ) from error
    return packed


def _task(packed: bytes) -> Task:
    """Make the task in an actor."""
    from ray import cloudpickle

    from vtcav.models.registry import load_model

    recipe = cloudpickle.loads(packed)
    model, cavs = recipe["model"], recipe["cavs"]
    model = load_model(model) if isinstance(model, str) else model
    model = _on_device(model, recipe["device"])
    cavs.check_fits(model, signature(model.preprocess))
    cavs.check_behaviour(model)
    attributor = Attributor(model, cavs, recipe["settings"], recipe["erasure"])
    attributor.precision = recipe["precision"]
    task: Task = recipe["task"](attributor, **recipe["more"])
    return task


def _on_device(model: Model, device: str) -> Model:
    """Return a model that computes on a kind of device."""
    from vtcav.models.classifier import Classifier
    from vtcav.models.second_input import given

    if model.device.type == device:
        return model
    if type(model) is not Classifier:
        raise ExplanationError(
            f"a {type(model).__name__} on {model.device.type} cannot be moved to {device}: have "
            "the actors load it, ray_options={'model': ...}, or set num_gpus to 0"
        )
    module, preprocess = model.module, model.preprocess
    if model.second is not None:
        module, preprocess = given(module, preprocess)
    moved = Classifier(
        module,
        model.class_names,
        preprocess,
        model.binary,
        device,
        layouts=model.layouts,
        task=model.task,
        output=model.output,
        score=model.score,
        second=model.second,
    )
    moved.assumed = model.assumed
    return moved


def _unpacked(row: Mapping[str, Any]) -> tuple[int, Part]:
    """Return the part that an actor computed, or raise its error."""
    if row["error"]:
        raise pickle.loads(row["error"])
    return row["number"], pickle.loads(row["part"])


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Silence Ray Data's progress bars and messages."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    was = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = was[0]
        logger.setLevel(was[1])


def _ray() -> Any:
    """Import Ray and Ray Data.

    Raises:
        ExtraError: When they are not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ExtraError(
            f"the Ray engine needs the package {error.name or 'ray'!r}, which is not installed: "
            'pip install "vtcav[ray]"'
        ) from error
    return ray


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
