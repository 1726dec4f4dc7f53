"""Scores of one's own: what `vtcav.Classifier(module, score=...)` explains.

Any function of a network's output for N images that returns scores [N, T] will do, as
`lambda output: torch.cat([output["colour"], output["shape"]], 1)`. Those here hold what the plain
pass of an image decides (which box, which region) along the integral, so that the score is a
continuous function of the feature maps, and attributions are complete.
"""

from vtcav.models.scores.boxes import BoxScore
from vtcav.models.scores.held import HeldScore
from vtcav.models.scores.regions import RegionScore
from vtcav.models.scores.similarity import SimilarityScore
from vtcav.models.scores.torchvision_detectors import RawDetector

__all__ = ["BoxScore", "HeldScore", "RawDetector", "RegionScore", "SimilarityScore"]
