"""The house keeps its order: few entries a room, short functions, one class of a name.

`lint-imports` (make lint) checks which room may import which; here is what it cannot count.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "vtcav"
FILES = sorted(SRC.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
OUTSIDE = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}

ROOT_ENTRIES, ENTRIES = 15, 20
FUNCTION_LINES, FILE_LINES = 50, 450
PARAMETERS = 7


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in OUTSIDE)


def code_lines(path):
    """Return the numbers of the lines that are neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    silent = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def test_the_root_has_few_entries():
    assert len(entries(SRC)) <= ROOT_ENTRIES, entries(SRC)


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in FILES} - {SRC}), ids=lambda f: str(f.relative_to(SRC))
)
def test_a_room_has_few_entries(folder):
    assert len(entries(folder)) <= ENTRIES, entries(folder)


def test_functions_fit_a_screen():
    long = []
    for path, tree in TREES.items():
        lines = code_lines(path)
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                size = len(lines & set(range(node.lineno, node.end_lineno + 1)))
                if size > FUNCTION_LINES:
                    long.append(f"{path.relative_to(SRC)}:{node.lineno} {node.name}: {size}")
    assert not long, "\n".join(long)


def test_files_have_one_subject():
    sizes = {path: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    long = [f"{path.relative_to(SRC)}: {n}" for path, n in sizes.items() if n > FILE_LINES]
    assert not long, "\n".join(long)


def test_no_two_public_classes_of_one_name():
    names = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not [name for name, count in names.items() if count > 1]


def test_nothing_private_is_used_across_modules():
    used = []
    for path, tree in TREES.items():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtcav"):
                used += [
                    f"{path.relative_to(SRC)}: {a.name}" for a in node.names if private(a.name)
                ]
            own = isinstance(getattr(node, "value", None), ast.Name) and node.value.id in SELF
            if isinstance(node, ast.Attribute) and private(node.attr) and not own:
                # defined in this file: by a class, an instance or a named tuple's method
                own = rf"(def {node.attr}\b|\.{node.attr}\b.*=|^\s+{node.attr}\b.*[:=])"
                if not re.search(own, text, re.MULTILINE) and node.attr not in FOREIGN:
                    used.append(f"{path.relative_to(SRC)}:{node.lineno} .{node.attr}")
    assert not used, "\n".join(used)


def private(name):
    return name.startswith("_") and not name.startswith("__")


SELF = {"self", "cls"}  # whose private names may come from a base class

# public: of named tuples, and of os
FOREIGN = frozenset(["_fields", "_replace", "_asdict", "_exit"])


def test_functions_take_few_parameters():
    """More than seven values that travel together are one value object."""
    many = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and private(node.name):
                count = len(node.args.args) + len(node.args.kwonlyargs)
                if count > PARAMETERS + 1:  # and self
                    many.append(f"{path.relative_to(SRC)}:{node.lineno} {node.name}: {count}")
    assert not many, "\n".join(many)


def uncommented(path):
    """Return the text of a file without its list of public names and its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    tree.body = [n for n in tree.body if not ast.unparse(n).startswith("__all__ = ")]
    return ast.unparse(tree)


def test_every_public_function_has_a_caller_or_a_page():
    """What only tests use is no part of the package."""
    words = {path: Counter(re.findall(r"\w+", uncommented(path))) for path in FILES}
    everywhere = sum(words.values(), Counter())
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "api").glob("*.rst"))
    shown = set(re.findall(r"\w+", pages))
    whole = set(re.findall(r"automodule:: ([\w.]+)", pages))
    unused = []
    for path, tree in TREES.items():
        module = ".".join(path.relative_to(SRC.parent).with_suffix("").parts)
        for node in tree.body if module not in whole else ():
            if not isinstance(node, FUNCTIONS | ast.ClassDef) or private(node.name):
                continue
            if everywhere[node.name] < 2 and node.name not in shown | {"__getattr__", "__dir__"}:
                unused.append(f"{module}.{node.name}")
    assert not unused, "\n".join(unused)


def test_lists_of_names_stand_only_in_public_namespaces():
    """Elsewhere an underscore says what is private."""
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "api").glob("*.rst"))
    public = {
        f"{module}.py".replace("vtcav.textures", "vtcav.datasets.textures")
        for module in re.findall(r"automodule:: ([\w.]+)", pages)
    }
    public.add("vtcav.datasets.demo_photographs.py")  # vtcav.demo
    lists = [
        path
        for path, tree in TREES.items()
        if "__all__"
        in {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    ]
    names = {".".join(path.relative_to(SRC.parent).parts): path.name for path in lists}
    wrong = {name for name, file in names.items() if file != "__init__.py"} - public
    assert not wrong, wrong
