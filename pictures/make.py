"""Draw the README's pictures: python pictures/make.py (needs the extra vtcav[demo])."""

import re
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import vtcav
from vtcav.cli.commands import demo
from vtcav.datasets import demo_photographs
from vtcav.images.concepts import concept_folders
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.figures.local.figure import plot_local
from vtcav.results.figures.page import save_figure

HERE = Path(__file__).parent
AUDIT = re.compile(r"<!-- test: ruler audit -->\n```python\n(.*?)```", re.DOTALL)
OUTLINE = (255, 140, 0)


def main():
    """Explain an espresso and a class of crops of it, with a cup and with wood."""
    model = vtcav.load_model("demo", device="cpu")
    with TemporaryDirectory() as folder:
        pictures = Path(folder)
        demo_photographs.write(pictures)
        explainer = vtcav.VisualTCAV(model, list(demo.LAYERS))
        explainer.fit(concept_folders(pictures / "concepts"), pictures / "random")
        local = explainer.explain(pictures / "photo.png", classes=2)
        glob = explainer.explain_class(demo.CLASS, pictures / "espressos")
    save_figure(lambda figure: plot_local(local, figure), HERE / "local.png")
    save_figure(lambda figure: plot_global(glob, figure), HERE / "global.png")
    draw_espresso(glob)
    draw_audit()


def draw_espresso(glob):
    """Show for each concept what was erased from a crop, under what that did to the class."""
    figure = Figure((6.4, 7.6), dpi=110)
    for row, verdict in enumerate(glob.verdicts()):
        picture = next(each for each in glob.erased if each.concept == verdict.concept)
        top = 0.985 - 0.5 * row
        sentence = verdict.sentence.split(" on average")[0] + "."
        figure.text(0.01, top, textwrap.fill(sentence, 58), fontsize=13, va="top")
        for column, drawn in enumerate((outlined(picture), picture.after)):
            axes = figure.add_axes((0.01 + 0.5 * column, top - 0.49, 0.48, 0.404))
            axes.imshow(
                Image.fromarray(drawn).resize((448, 448), Image.Resampling.NEAREST), aspect="equal"
            )
            axes.set_axis_off()
    figure.savefig(HERE / "espresso.png")


def draw_audit():
    """Show what the audit in docs/erasure.md finds: three photographs, and without the ruler."""
    names = {}
    sys.path.insert(0, str(HERE.parent))  # the page imports pictures.audit
    exec(AUDIT.search((HERE.parent / "docs/erasure.md").read_text())[1], names)
    found = names["found"]
    ruler = [picture for picture in found.erased if picture.concept == "ruler"][:3]
    verdict = next(each for each in found.verdicts() if each.concept == "ruler")
    figure = Figure((9, 7.3), dpi=110)
    rows = ("where the network sees the ruler", outlined), ("without it", lambda e: e.after)
    for k, picture in enumerate(ruler):
        for row, (title, drawn) in enumerate(rows):
            bottom = 0.465 - 0.455 * row
            axes = figure.add_axes((0.01 + 0.33 * k, bottom, 0.32, 0.395))
            axes.imshow(
                Image.fromarray(drawn(picture)).resize((448, 448), Image.Resampling.NEAREST)
            )
            axes.set_axis_off()
            if k == 0:
                figure.text(0.01, bottom + 0.405, title, fontsize=13, color="#555555")
    sentence = verdict.sentence.split(";")[0] + "."
    figure.text(0.01, 0.98, textwrap.fill(sentence, 72), fontsize=15, va="top")
    figure.savefig(HERE / "audit.png")


def outlined(picture):
    """Return a picture with the border of its region drawn, uint8 [H, W, 3]."""
    H = picture.region
    inside = H.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inside &= np.roll(H, shift, axis)
    drawn = picture.before.copy()
    drawn[H & ~inside] = OUTLINE
    return drawn


if __name__ == "__main__":
    main()
