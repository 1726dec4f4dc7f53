"""A small study for the report: hostile names, a concept that stands out, one that does not."""

import warnings
from dataclasses import dataclass, replace

import vtcav
from tests.helpers.small import concepts, pictures, small_net
from vtcav.diagnostics.result import Diagnostics
from vtcav.results.explanation import GlobalExplanation, LocalExplanation

CLASSES = ("<script>alert(1)</script>", 'dog "&" wolf', "fox\n\u202exof")
CONCEPT = "</script><img src=x onerror=alert(2)>"
IMAGE = "/home/ada/secret/it's \"<b>\n</script><img src=y onerror=alert(3)>.png"


@dataclass(frozen=True)
class Study:
    """Results, as the report takes them."""

    local: tuple[LocalExplanation, ...]
    global_: tuple[GlobalExplanation, ...]
    diagnostics: Diagnostics


def small_study(images=3):
    """Explanations of a small network, whose names are attempts to break out of the page."""
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16))
    bright, cold = concepts().values()
    explainer = vtcav.VisualTCAV(model, ("1", "3"), progress=False)
    more = pictures(24, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer.fit(
            {CONCEPT: bright, "cold": cold, "plain": more[:6]}, more, null_cavs=60, bootstraps=20
        )
        wide = pictures(images, seed=5, size=(16, 24))
        local = [explainer.explain(picture, classes=2) for picture in wide]
        named = [
            replace(explained, image=IMAGE if i == 0 else f"/home/ada/secret/{i}.png")
            for i, explained in enumerate(local)
        ]
        classes = [explainer.explain_class(k, pictures(6, seed=7 + k, low=100)) for k in range(2)]
        return Study(tuple(named), tuple(classes), explainer.diagnostics())
