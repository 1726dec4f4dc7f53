"""Erasing: the network is asked again, without a concept's region or its part of the maps."""
