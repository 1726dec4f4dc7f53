"""Draw the README's pictures: python pictures/make.py (needs the extra vtcav[demo])."""

from pathlib import Path
from tempfile import TemporaryDirectory

import vtcav
from vtcav.cli.commands import demo
from vtcav.datasets import demo_photographs, textures
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.figures.local_explanation import plot_local
from vtcav.results.figures.page import save_figure

HERE = Path(__file__).parent
LAYERS = ["_blocks.10", "_blocks.13", "_bn1"]


def main():
    """Explain the checkerboard with three concepts, and a class with crops."""
    model = vtcav.load_model("demo", device="cpu")
    explainer = vtcav.VisualTCAV(model, LAYERS)
    names = ("chequered", "striped", "dotted")
    explainer.fit({name: textures.draw(name, 40) for name in names}, demo_photographs.negatives(0))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkerboard.png"
        demo_photographs.photograph("chessboard_RGB").save(path)
        local = explainer.explain(path, classes=2)
    save_figure(lambda figure: plot_local(local, figure), HERE / "local.png")
    class_name, photo = demo.CLASS
    pieces = demo_photographs.crops(
        demo_photographs.photograph(photo), 16, seed=0, smallest=0.7, largest=1.0
    )
    glob = explainer.explain_class(class_name, pieces)
    save_figure(lambda figure: plot_global(glob, figure), HERE / "global.png")


if __name__ == "__main__":
    main()
