"""The keys of a study file, their values, and the files that they name.

pydantic walks through the keys, the constraints of the settings check the values. `read_study`
names the line and the key of a mistake.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path, PurePath
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from vtcav.errors import VtcavError
from vtcav.evaluation.compare.methods import METHODS
from vtcav.explainer.settings import (
    MARGINS,
    CorrectionSettings,
    DiscoverySettings,
    ErrorSettings,
)
from vtcav.images.concepts import check_enough, concept_folders, negative_folders
from vtcav.images.listing import collect, subfolders
from vtcav.models.class_names import TAKEN
from vtcav.models.settings import LoadSettings
from vtcav.parameters import (
    Between,
    Constraint,
    Flag,
    Settings,
    Text,
    Whole,
    parameters,
    unknown_key,
)
from vtcav.results.limits import ConceptLimit
from vtcav.study.file_values import (
    existing,
    file_of,
    files_of,
    is_table,
    labelled_of,
    source_of,
)
from vtcav.study.sources import Source, labels_in, paths
from vtcav.study.spec import (
    FORMATS,
    TOP,
    ConceptSources,
    CorrectSpec,
    DiagnosticsSpec,
    DiscoverySpec,
    ErrorsSpec,
    ImageSpec,
    Options,
    TextSpec,
    VersusSpec,
)
from vtcav.study.values import (
    MistakeError,
    UnknownKeyError,
    at,
    filled,
    listed,
    mistakes,
    take,
    taking,
)
from vtcav.study.yaml_file import Scalar, StudyError, came, located, plain, read_yaml


def read_study(path: Path) -> dict[str, Any]:
    """Read a study file and check it.

    Returns:
        The arguments of `Study` that are not its defaults, with the line of every key as `lines`.

    Raises:
        StudyError: Naming the file, the line, the key, what was expected and what came.
    """
    data, lines = read_yaml(path)
    asked = data if isinstance(data, dict) else {}
    given = {key for key, value in asked.items() if plain(value)}
    purpose = given & {"classes", "images"}
    words_alone = "texts" in given and "concepts" not in given
    concepts = "texts" if words_alone else "concepts"
    if {"model", concepts, "output"} <= asked.keys() and not purpose:
        message = (
            "there is nothing to explain: expected 'classes' (class names with folders of "
            "images) or 'images' (single photographs)"
        )
        raise StudyError(located(str(path), lines[""], "", message))
    try:
        with contextlib.chdir(path.parent):  # messages name paths as they are written
            kind = _STUDY_OF_TEXTS if words_alone else _STUDY
            study = kind.model_validate(data, context=lines)
    except ValidationError as error:
        _refuse(error, str(path), lines)
    shared = (data.get(key) for key in ("concepts", "negatives", "images"))
    roots = tuple(str(value) for value in shared if isinstance(value, Scalar) and value)
    # each concept has its own negatives
    found = {name: getattr(study, name) for name in study.model_fields_set - {"negatives"}}
    return {"concepts": {}, **found, "lines": lines, "roots": roots}


def _refuse(error: ValidationError, file: str, lines: Mapping[str, int]) -> NoReturn:
    """Raise the first error of pydantic, with its line and key."""
    first = error.errors(include_url=False)[0]
    cause = first["ctx"]["error"]
    keys = getattr(cause, "keys", ())
    if getattr(cause, "below", True):
        keys = (*first["loc"], *keys)
    key = shown = ""
    for part in keys:
        inner = f"{key}[{part}]" if isinstance(part, int) else f"{key}.{part}".lstrip(".")
        if inner in lines:  # others are no keys of the file
            shown = key if isinstance(cause, UnknownKeyError) else inner
            key = inner
    raise StudyError(located(file, lines[key], shown, str(cause))) from error


# -- keys -------------------------------------------------------------------------------------


class _Part(BaseModel):
    """A mapping with these keys only; a key without a value has its default."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        known = cls.model_fields
        required = [name for name in known if known[name].is_required()]
        if not isinstance(value, dict):
            keys = ", ".join(known)
            raise ValueError(f"expected a mapping with the keys {keys}, got {came(value)}")
        for name in value:
            if name not in known:
                raise UnknownKeyError(unknown_key(name, known), name)
        if missing := [name for name in required if name not in value]:
            message = f"the key {missing[0]!r} is missing; expected {', '.join(required)}"
            raise ValueError(message)
        silent = {n for n, v in value.items() if isinstance(v, Scalar) and v.value is None}
        return {n: v for n, v in value.items() if n in required or n not in silent}


def _part(made: type, **keys: Any) -> Any:
    """Return the type of a mapping with the keys of a dataclass.

    Args:
        made: The dataclass that the mapping is turned into.
        keys: The types of its keys. Those of settings follow from their declarations.
    """
    if issubclass(made, Settings):
        keys = _settings(made)
    known: dict[str, Any] = {
        field.name: (keys[field.name], ... if field.default is MISSING else field.default)
        for field in fields(made)
    }
    part: Any = create_model(made.__name__, __base__=_Part, **known)
    return Annotated[part, AfterValidator(lambda found: made(**dict(found)))]


def _settings(made: type[Settings], *names: str) -> dict[str, Any]:
    """Return the types of keys that are settings: those of these names, or all."""
    known = parameters(made)
    return {name: taking(known[name].constraint) for name in names or known}


def _under(key: str) -> Any:
    """Take a value that is not a mapping as the value of one key."""
    return BeforeValidator(lambda value: value if isinstance(value, dict) else {key: value})


def _model(settings: LoadSettings) -> LoadSettings:
    """Refuse files of the network that do not exist."""
    for name, expected in (("weights", ""), ("class_names", f"a list of class names, or {TAKEN}")):
        path = getattr(settings, name)
        if isinstance(path, str) and path != "random":
            at(name, existing, path, expected)
    return settings


def _negatives(value: Any) -> Any:
    """Return negatives for all concepts, or by concept."""
    if isinstance(value, dict) and value:
        return {name: at(name, source_of, part) for name, part in value.items()}
    return source_of(value)


def _concept_folders(value: Any, info: ValidationInfo[Any]) -> Any:
    """Return concepts by name; given a folder, those in it."""
    if isinstance(value, dict) and value:
        return value
    what = "a folder with one folder per concept, or concepts by name"
    folder, negatives = str(take(value, Text(what))), info.data.get("negatives")
    with mistakes():
        found = concept_folders(folder, besides=negatives if isinstance(negatives, str) else None)
    return {name: Scalar(str(path), quoted=True) for name, path in found.items()}


def _contrasted(
    concepts: dict[str, ConceptSources], info: ValidationInfo[Any]
) -> dict[str, ConceptSources]:
    """Return concepts with their negatives, enough images of each."""
    if not {"negatives", "options"} <= info.data.keys():
        return {}  # a mistake is there
    given, least = info.data["negatives"], info.data["options"].min_examples
    own = {name: part.negatives for name, part in concepts.items() if part.negatives}
    contrast = {**_shared(given, list(concepts), own), **own}
    if missing := [name for name in concepts if name not in contrast]:
        lacks = f"no negatives for {', '.join(map(repr, missing))}"
        if given is not None:
            raise MistakeError(f"{lacks}; add a folder for each", "negatives", below=False)
        raise ValueError(
            f"{lacks}: give a folder of images that do not show the concepts with the key "
            "'negatives'"
        )
    found = {name: replace(part, negatives=contrast[name]) for name, part in concepts.items()}
    for name, sources in found.items():
        with mistakes("concepts", name, below=False):
            check_enough(f"concept {name!r}", len(collect(paths(sources.examples))), least)
    for name, sources in found.items():
        with mistakes("concepts" if name in own else "negatives", name, "negatives", below=False):
            check_enough(f"negatives of {name!r}", len(collect(paths(sources.negatives))), least)
    return found


def _shared(given: Any, names: list[str], own: Mapping[str, Source]) -> Mapping[str, Source]:
    """Return the negatives of concepts that have none of their own."""
    if isinstance(given, dict):
        for name in given:
            with mistakes("negatives", name, below=False):
                if name in own:
                    message = f"the concept {name!r} has negatives of its own already; remove one"
                    raise ValueError(message)
                if name not in names:
                    raise ValueError(f"there is no concept {name!r}; expected {', '.join(names)}")
        return given
    if given is None:
        return {}
    if isinstance(given, str):
        with contextlib.suppress(VtcavError):  # a single file
            each = negative_folders(given, dict.fromkeys(names))
            if isinstance(each, dict):  # one folder for each concept, as on the command line
                return {name: str(path) for name, path in each.items()}
    return dict.fromkeys(names, given)


def _text(value: Any) -> str:
    """Return a text."""
    return str(take(value, Text("a text")))


def _texts(value: Any) -> Any:
    """Return one text as a list of one."""
    return value if isinstance(value, list) and value else [value]


def _understood(texts: TextSpec, info: ValidationInfo[Any]) -> TextSpec:
    """Return concepts as words with the negatives of all concepts, where these are one set."""
    if not {"negatives", "concepts"} <= info.data.keys():
        return texts  # a mistake is there
    for name in texts.concepts:
        if name in info.data["concepts"]:
            message = f"{name!r} is a concept of 'concepts' too; choose another name"
            raise MistakeError(message, "concepts", name)
    given = info.data["negatives"]
    if texts.negatives is None and given is not None and not isinstance(given, dict):
        every = _shared(given, list(info.data["concepts"]) or list(texts.concepts), {})
        if len(set(every.values())) == 1:
            return replace(texts, negatives=given)
    return texts


def _images(value: Any, info: ValidationInfo[Any]) -> Any:
    """Return photographs by the names of their results, and record the lines of these."""
    what = "a list of image files, a folder, or image files by name"
    if isinstance(value, dict) and value:
        return value
    lines: dict[str, int] = info.context or {}
    if isinstance(value, list) and value:
        files = {at(i, file_of, part): lines[f"images[{i}]"] for i, part in enumerate(value)}
        if twice := [file for file, count in Counter(value).items() if count > 1]:
            raise ValueError(f"the image {str(twice[0])!r} is listed twice; remove one")
    else:
        files = dict.fromkeys(files_of(str(take(value, Text(what)))), lines["images"])
    stems = Counter(PurePath(file).stem.casefold() for file in files)
    found = {}
    for file, line in files.items():
        stem = PurePath(file).stem
        name = stem if stems[stem.casefold()] == 1 else file
        lines[f"images.{name}"] = line
        found[name] = {"file": Scalar(file, quoted=True)}
    return found


def _class_sources(value: Any, info: ValidationInfo[Any]) -> Any:
    """Return images by class; those of a table by their labels, those of folders by their names."""
    if not isinstance(value, Scalar):
        return value
    lines: dict[str, int] = info.context or {}
    path = labelled_of(value)
    if is_table(path):
        found = {label: f"{path}:{label}" for label in labels_in(path)}
    else:
        with mistakes():
            found = {name: str(folder) for name, folder in subfolders(path, _FOLDERS).items()}
    if not found:
        raise ValueError(f"expected {_FOLDERS}; there is no folder in {path!r}")
    lines.update(dict.fromkeys((f"classes.{name}" for name in found), lines["classes"]))
    return {name: Scalar(source, quoted=True) for name, source in found.items()}


def _diagnostics(value: Any) -> Any:
    """Return the keys of the diagnostics for true, and None for false."""
    if not isinstance(value, Scalar):
        return value
    known = "true, false, or a mapping with the keys resamples, other_negatives"
    return {} if take(value, Constraint(known, Flag().accept)) else None


def _limited(limits: dict[str, ConceptLimit], info: ValidationInfo[Any]) -> dict[str, ConceptLimit]:
    """Refuse limits of concepts and classes that the study does not have, and empty ones."""
    if not {"concepts", "classes"} <= info.data.keys():
        return {}  # a mistake is there
    texts, classes = info.data.get("texts"), list(info.data["classes"] or ())
    concepts = [*info.data["concepts"], *(texts.concepts if texts else ())]
    for name, limit in limits.items():
        with mistakes(name):
            if name not in concepts:
                raise ValueError(f"there is no concept {name!r}; expected {', '.join(concepts)}")
            if limit.max_attribution is None and limit.max_share is None:
                raise ValueError("expected max_attribution, max_share or both")
            if not classes:
                raise ValueError("limits hold for classes: the study has none")
            for given in limit.classes or ():
                if given not in classes:
                    known = ", ".join(classes)
                    raise ValueError(f"there is no class {given!r} in the study; expected {known}")
    return limits


def _taken_out(spec: CorrectSpec, info: ValidationInfo[Any]) -> CorrectSpec:
    """Refuse to take out concepts that the study does not have."""
    if "concepts" in info.data:
        texts = info.data.get("texts")
        known = [*info.data["concepts"], *(texts.concepts if texts else ())]
        for i, name in enumerate(spec.concepts):
            with mistakes("concepts", i):
                if name not in known:
                    raise ValueError(f"there is no concept {name!r}; expected {', '.join(known)}")
    return spec


def _compared(spec: VersusSpec, info: ValidationInfo[Any]) -> VersusSpec:
    """Refuse a second network where there is no class to compare."""
    if "classes" in info.data and not info.data["classes"]:
        raise ValueError("networks are compared by classes: the study has none")
    return spec


_SOURCE: Any = Annotated[Any, PlainValidator(source_of)]
_CONCEPT: Any = _part(ConceptSources, examples=_SOURCE, negatives=_SOURCE)
_IMAGE: Any = _part(ImageSpec, file=Annotated[str, PlainValidator(file_of)], classes=taking(TOP))
_DIAGNOSTICS: Any = _part(DiagnosticsSpec, resamples=taking(Whole(20)), other_negatives=_SOURCE)
_DISCOVERY: Any = _part(
    DiscoverySpec,
    images=_SOURCE,
    **_settings(DiscoverySettings, "k", "attributed", "erased"),
)
_LABELLED: Any = Annotated[str, PlainValidator(labelled_of)]
_ERRORS: Any = _part(ErrorsSpec, images=_LABELLED, **_settings(ErrorSettings))
_CORRECT: Any = _part(
    CorrectSpec,
    concepts=Annotated[listed("a list of concepts"), BeforeValidator(_texts)],
    images=_LABELLED,
    **_settings(CorrectionSettings),
)
_VERSUS: Any = _part(
    VersusSpec, network=taking(Text("a network, or a file of weights")), margin=taking(MARGINS)
)
_LIMIT: Any = _part(ConceptLimit)
_IMAGES: Any = Annotated[dict[str, Annotated[_IMAGE, _under("file")]], BeforeValidator(_images)]
_CONCEPTS: Any = Annotated[
    dict[str, Annotated[_CONCEPT, _under("examples")]],
    BeforeValidator(_concept_folders),
    AfterValidator(_contrasted),
]
_TEXT: Any = Annotated[tuple[Annotated[str, PlainValidator(_text)], ...], BeforeValidator(_texts)]
_TEXTS: Any = _part(
    TextSpec,
    concepts=Annotated[dict[str, _TEXT], filled(dict, "a mapping from names to texts")],
    images=_SOURCE,
    model=taking(Text("the folder of an image-text model")),
    negatives=_SOURCE,
    neutral=_TEXT,
    share=taking(Between(0, 1)),
)
_BY_CONCEPT = "a mapping from concepts to max_attribution or max_share"
_BY_CLASS = "a mapping from class names to folders of images"
_FOLDERS = "a folder with one folder of images per class, a table, or classes by name"
# Later keys look at the values of earlier ones. A key that is not required has its default in
# `Study`, unless another key needs it.
_KEYS: dict[str, Any] = {
    "model": (Annotated[_part(LoadSettings), _under("name"), AfterValidator(_model)], ...),
    "layers": (listed("a list of layer names"), None),
    "options": (_part(Options), Options()),
    "negatives": (Annotated[Any, PlainValidator(_negatives)], None),
    "concepts": (_CONCEPTS, ...),
    "texts": (Annotated[_TEXTS, AfterValidator(_understood)], None),
    "classes": (
        Annotated[dict[str, _SOURCE], filled(dict, _BY_CLASS), BeforeValidator(_class_sources)],
        None,
    ),
    "images": (_IMAGES, None),
    "limits": (
        Annotated[dict[str, _LIMIT], filled(dict, _BY_CONCEPT), AfterValidator(_limited)],
        None,
    ),
    "diagnostics": (Annotated[_DIAGNOSTICS | None, BeforeValidator(_diagnostics)], None),
    "discover": (Annotated[_DISCOVERY, _under("images")], None),
    "groups": (taking(Text("a pattern in the names of images, or TABLE:COLUMN")), None),
    "errors": (Annotated[_ERRORS, _under("images")], None),
    "correct": (Annotated[_CORRECT, AfterValidator(_taken_out)], None),
    "versus": (Annotated[_VERSUS, _under("network"), AfterValidator(_compared)], None),
    "peers": (listed(f"a list among {', '.join(METHODS)}", *METHODS), None),
    "formats": (listed(f"a list among {', '.join(FORMATS)}", *FORMATS), None),
    "report": (taking(Flag()), None),
    "title": (taking(Text("the title of the report")), None),
    "output": (taking(Text("the path of a folder for the results")), ...),
}
_STUDY = create_model("Study", __base__=_Part, **_KEYS)
_STUDY_OF_TEXTS = create_model("Study", __base__=_Part, **_KEYS | {"concepts": (_CONCEPTS, {})})
