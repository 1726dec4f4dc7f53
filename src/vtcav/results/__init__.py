"""Frozen results: banks of CAVs, explanations, their tables, files and figures."""
