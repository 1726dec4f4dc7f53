"""Keras 3 networks on the PyTorch back end."""

from vtcav.models.keras.classifier import KerasClassifier

__all__ = ["KerasClassifier"]
