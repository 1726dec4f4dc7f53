"""What can go wrong, as one tree.

```
VtcavError
├── ModelError            the network cannot be used as asked
│   └── LayerError        a layer is unknown, bypassed or of an unusable shape
├── ImageError            an image, or all images of a source, cannot be read
├── ConceptError          a concept or its negatives cannot be used
├── DatasetError          a data set does not hold the images, labels or masks asked for
├── CavError              a bank of CAVs does not fit the network, layer or preprocessing
├── ExplanationError      an explanation cannot be computed, saved or loaded as asked
├── StudyError            a study's file is wrong; the message has the line (in vtcav.study)
└── ExtraError            an optional package is needed and absent
```

Every message says what was expected, what came and what to do.
"""

__all__ = [
    "CavError",
    "ConceptError",
    "DatasetError",
    "ExplanationError",
    "ExtraError",
    "ImageError",
    "LayerError",
    "ModelError",
    "VtcavError",
]


class VtcavError(Exception):
    """The root of every error that vtcav raises on purpose."""


class ModelError(VtcavError):
    """The network, its output or its class names cannot be used as asked."""


class LayerError(ModelError):
    """A layer is unknown, is bypassed by another path, or has no feature maps."""


class ImageError(VtcavError):
    """An image, or every image of a source, cannot be read."""


class ConceptError(VtcavError):
    """A concept or its negatives cannot be used: too few examples, a missing set, a bad name."""


class DatasetError(VtcavError):
    """A data set cannot be read as images by label: a wrong column, label, box or mask."""


class CavError(VtcavError):
    """A bank of CAVs cannot be loaded, or was made for another network, layer or preprocessing."""


class ExplanationError(VtcavError):
    """An explanation cannot be computed, saved or loaded as asked."""


class ExtraError(VtcavError):
    """A feature needs an optional package that is not installed."""
