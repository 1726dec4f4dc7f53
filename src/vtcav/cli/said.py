"""Messages of the library in the words of the command line: arguments are its options."""

from __future__ import annotations

import re

_CALLS = {
    "model.layers()": "vtcav layers MODEL",
    "explain_class": "vtcav explain-class",
}
_OPTIONS = {"output": "model_output", "images": "probe"}
"""Arguments whose options have another name."""
_PREPROCESS = re.compile(r"vtcav\.Preprocess\(((?:[^()]|\([^()]*\))*)\)")
_SAY = re.compile(r"(?:, or|:|;) say (?:which|where they are) with (?:[a-z_]+=(?: and )?)+")
"""Advice to name arguments, which commands without such an option do not follow."""
_CALL = r"\w\((?:[^()]|\([^()]*\))*\)"
_ARGUMENT = re.compile(
    # what is quoted or inside of a call stays as it is
    rf"""{_CALL}|(?<!\w)'[^']*'(?!\w)|(?<![\w\-./'"])(?:"""
    r"""(?P<given>[a-z_]+)=(?P<value>'[^']*'|"[^"]*"|[\w.:]+)|(?P<named>[a-z]+(?:_[a-z]+)+)(?![\w./=(]))"""
)


def in_options(message: str, usage: str) -> str:
    """Return a message with the options of a command in place of arguments.

    Args:
        message: A message of the library.
        usage: The usage of the command, which has its options.

    Example:
        >>> in_options("lower min_examples, or pass binary=True", "[--min-examples N] [--binary]")
        'lower --min-examples, or pass --binary'
        >>> in_options("say vtcav.Preprocess(..., channels=1)", "[--preprocess YAML]")
        "say --preprocess '{..., channels: 1}'"
        >>> in_options("say vtcav.Preprocess(224)", "STUDY")  # its key in the study
        'say preprocess: {size: 224}'
    """
    options = {option.replace("-", "_") for option in re.findall(r"--([a-z-]+)", usage)}
    for call, words in _CALLS.items():
        message = re.sub(rf"(?<![\w'\"/]){re.escape(call)}(?![\w'\"/])", words, message)
    form = "--preprocess '{{{}}}'" if "preprocess" in options else "preprocess: {{{}}}"
    message = _PREPROCESS.sub(lambda found: form.format(_yaml(found[1])), message)

    def option(found: re.Match[str]) -> str:
        name = found["given"] or found["named"]
        if name is None or (dest := _OPTIONS.get(name, name)) not in options:
            return found[0]
        word = f"--{dest.replace('_', '-')}"
        value = (found["value"] or "").strip("'\"")
        return f"{word} {value.lower() if value == 'None' else value}".removesuffix(" True").strip()

    known = [name.replace("_", "-") for name in options]
    message = _SAY.sub(
        lambda found: found[0] if any(f"{name}=" in found[0] for name in known) else "", message
    )
    return re.sub(r"(--[a-z-]+) \(\1\)", r"\1", _ARGUMENT.sub(option, message))


def _yaml(arguments: str) -> str:
    """Return the arguments of a preprocessing as YAML, of which a first one is the size.

    Example:
        >>> _yaml('224, window=(0, 4095), resize="pad"')
        'size: 224, window: [0, 4095], resize: pad'
    """
    text = arguments.replace("(", "[").replace(")", "]").replace('"', "")
    text = re.sub(r"(\w)=", r"\1: ", text)
    return text if re.match(r"\.\.\.|\w+: ", text) or not text else f"size: {text}"
