"""Concepts that nobody named: feature maps factorised, and how stable what comes out is.

`factorisation` finds parts that places are made of and their directions, `stability` matches those
of several factorisations and chooses how many there are.
"""
