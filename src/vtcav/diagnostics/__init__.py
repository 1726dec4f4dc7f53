"""How far a CAV can be trusted: checks, their levels, and the result that holds them.

```
separability, stability, entanglement, place, duplicates     the mathematics
*_checks                                                     numbers into sentences and levels
diagnosis                                                    every check on a bank of CAVs
result, figure, files                                        looked at, drawn, saved
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.diagnostics.diagnosis import diagnose
    from vtcav.diagnostics.result import Diagnostics

__all__ = ["Diagnostics", "diagnose"]


def __getattr__(name: str) -> Any:
    if name == "Diagnostics":
        from vtcav.diagnostics.result import Diagnostics

        return Diagnostics
    if name == "diagnose":
        from vtcav.diagnostics.diagnosis import diagnose

        return diagnose
    raise AttributeError(f"module 'vtcav.diagnostics' has no attribute {name!r}")
