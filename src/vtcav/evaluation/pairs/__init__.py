"""Photographs with and without a thing: its measured effect beside what is attributed to it."""
