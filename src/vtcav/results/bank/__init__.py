"""The bank: concepts learned at the layers of one network, in memory and as a file."""

from vtcav.results.bank.cav_bank import CavBank, describe

__all__ = ["CavBank", "describe"]
