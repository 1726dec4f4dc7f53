"""Diagnostics: how far a CAV can be trusted.

```
separability, stability, entanglement, location, duplicates     the mathematics
levels, *_checks                                                numbers into sentences and levels
diagnosis                                                       every check on a bank of CAVs
result, figure, display                                         saved, drawn, shown in notebooks
```
"""
