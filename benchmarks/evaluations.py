"""The cost and the accuracy of the adaptive rule, on EfficientNet-Lite0 with ImageNet weights.

For every photograph, at the recommended layers, for three classes and six drawn concepts: head
evaluations of `steps="adaptive"` at 1 %, and the error of its attributions of at least 0.01 against
512 steps; and the same for the paper's 50 steps.

    python benchmarks/evaluations.py [--photographs DIR] [--limit 4] [--device cuda]
"""

import argparse

import pandas as pd
from measuring import write

import vtcav
from vtcav.datasets import demo_photographs, textures
from vtcav.images.listing import collect

KEY = ["layer", "concept", "class_index"]
COUNTED = 0.01
RESOLVED = 0.001  # 512 steps are not exact themselves


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", help="a folder; default: four of scikit-image's")
    parser.add_argument("--limit", type=int, default=4, help="photographs; default 4")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    options = parser.parse_args()
    model = vtcav.load_model("demo", device=options.device)
    paper = vtcav.VisualTCAV(model, steps=50, fill=None, progress=False)
    concepts = {name: textures.draw(name, 30, seed=0) for name in textures.NAMES}
    paper.fit(concepts, demo_photographs.negatives(0)[:100], null_cavs=0, bootstraps=0)
    fine = vtcav.VisualTCAV(model, steps=512, cavs=paper.cavs, fill=None, progress=False)
    adaptive = vtcav.VisualTCAV(model, cavs=paper.cavs, fill=None, progress=False)
    if options.photographs:
        pictures = [ref.load() for ref in collect(options.photographs, limit=options.limit)]
    else:
        names = ("chelsea", "coffee", "chessboard_RGB", "camera")[: options.limit]
        pictures = [demo_photographs.photograph(name) for name in names]
    found = pd.concat(
        compared(fine, {"adaptive": adaptive, "50 steps": paper}, picture, n)
        for n, picture in enumerate(pictures)
    )
    settings = {"images": len(pictures), "layers": adaptive.layers}
    write("evaluations", rows_of(found), options.device, **settings)


def compared(fine, rules, picture, n):
    """Return, by rule, the cost and the relative error of every attribution of a picture."""
    truth = fine.explain(picture, classes=3).attributions.set_index(KEY)["attribution"]
    parts = []
    for name, explainer in rules.items():
        table = explainer.explain(picture, classes=3).attributions.set_index(KEY)
        error = (table["attribution"] - truth).abs() / truth.clip(lower=COUNTED)
        estimate = (table["error"] / table["attribution"].clip(lower=COUNTED)).clip(lower=RESOLVED)
        columns = {"e": error.where(truth >= COUNTED), "within": error <= estimate}
        parts.append(pd.DataFrame({"rule": name, "n": n, "spent": table["evaluations"], **columns}))
    print(f"photograph {n + 1} done", flush=True)
    return pd.concat(parts).reset_index()


def rows_of(found):
    """Return the rows of the table."""
    own = found[found["rule"] == "adaptive"]
    spent = own.groupby(["n", "layer"], sort=False)["spent"].first()
    rows = [
        {
            "what": "51 evaluations over those of the adaptive rule, recommended layers",
            "value": round(51 / float(spent.mean()), 2),
            "target": "at least 3",
        }
    ]
    for layer, mean in spent.groupby("layer", sort=False).mean().items():
        what = f"evaluations of the adaptive rule at {layer}"
        rows.append({"what": what, "value": round(float(mean), 1), "target": None})
    what = f"attributions whose error is at most its estimate, adaptive ({len(own)})"
    rows.append({"what": what, "value": f"{own['within'].mean():.1%}", "target": None})
    for rule, part in found.groupby("rule", sort=False):
        errors = part["e"].dropna()
        share = float((errors < COUNTED).mean())
        what = f"attributions from 0.01 on within 1 % of 512 steps, {rule} ({len(errors)})"
        target = "at least 95 %" if rule == "adaptive" else None
        rows.append({"what": what, "value": f"{share:.1%}", "target": target})
    return rows


if __name__ == "__main__":
    main()
