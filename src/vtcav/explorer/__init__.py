"""The explorer: a local web app to make concepts by hand and see where a network finds them.

```python
vtcav.explorer.serve(model)                       # until Ctrl+C
app = vtcav.explorer.create_app(session, ...)     # an ASGI application
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.explorer.app import create_app
    from vtcav.explorer.schemas import ConceptSpec, Example
    from vtcav.explorer.server import serve
    from vtcav.explorer.session import Session

__all__ = ["ConceptSpec", "Example", "Session", "create_app", "serve"]

_HOMES = {
    "ConceptSpec": "schemas",
    "Example": "schemas",
    "Session": "session",
    "create_app": "app",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    from vtcav.errors import ExtraError

    if name not in _HOMES:
        raise AttributeError(f"module 'vtcav.explorer' has no attribute {name!r}")
    try:
        for package in ("fastapi", "pydantic", "starlette", "uvicorn"):
            import_module(package)
    except ImportError as error:
        raise ExtraError(
            f"the explorer needs {error.name}: pip install 'vtcav[explore]'"
        ) from error
    return getattr(import_module(f"vtcav.explorer.{_HOMES[name]}"), name)
