"""The method against the slow oracle, over random networks and shapes, and its properties."""

import copy
import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import vtcav
from tests.helpers import oracle
from tests.helpers.small import (
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
    with_weights,
)
from vtcav.method import attribution
from vtcav.method.cav import direction, emblem
from vtcav.method.concept_map import concept_map, contraharmonic_mean, raw_map
from vtcav.method.integral.refined_trapezoid import refinement
from vtcav.method.integral.trapezoid import integrate, trapezoid

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "elu": nn.ELU}
few = settings(max_examples=15, deadline=None, derandomize=True)
many = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def close(ours, truth, atol):
    np.testing.assert_allclose(np.asarray(ours, dtype=float), truth, rtol=0, atol=atol)


def double(tensor):
    return tensor.double().numpy()


# -- the pure functions --------------------------------------------------------------------------


@dataclass
class Tensors:
    """Random arguments of the pure functions; some images have negative maps, some have not."""

    F: torch.Tensor  # [N, C, h, w]
    v: torch.Tensor  # [K, C]
    M: torch.Tensor  # [N, K, h, w]
    IG: torch.Tensor  # [N, T, C, h, w]
    z: torch.Tensor  # [N, T]
    z0: torch.Tensor  # [1, T]

    def indices(self, letters):
        """All index tuples over images "n", classes "t" and concepts "k"."""
        sizes = {"n": len(self.F), "t": self.IG.shape[1], "k": len(self.v)}
        return np.ndindex(*(sizes[letter] for letter in letters))


sides = st.integers(1, 6)
map_sizes = st.tuples(sides, sides).filter(lambda size: size != (1, 1))


@st.composite
def tensors(draw, classes=sides):
    N, C, K, T = (draw(count) for count in (st.integers(1, 3), sides, st.integers(1, 4), classes))
    size = draw(map_sizes)
    random = np.random.default_rng(draw(seeds))
    F = random.normal(size=(N, C, *size))
    for n in range(N):
        F[n] = abs(F[n]) if draw(st.booleans()) else F[n]
    arrays = (
        F,
        random.normal(size=(K, C)),
        random.uniform(-0.5, 1, size=(N, K, *size)).clip(0),
        random.normal(size=(N, T, C, *size)),
        random.normal(size=(N, T)),
        random.normal(size=(1, T)),
    )
    return Tensors(*(torch.from_numpy(array).float() for array in arrays))


@many
@given(tensors(), seeds)
def test_direction(x, seed):
    negatives = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, *x.F.shape[1:])))
    ours = direction(x.F.double().mean((2, 3)), negatives.mean((2, 3)))
    close(ours, oracle.direction(double(x.F), negatives.numpy()), 1e-12)


@many
@given(tensors())
def test_raw_map(x):
    R = raw_map(x.F, x.v)
    for n, k in x.indices("nk"):
        close(R[n, k], oracle.raw_map(double(x.F[n]), double(x.v[k])), 1e-5)


@many
@given(st.integers(1, 7), st.integers(1, 3), seeds)
def test_emblem_is_the_true_median_of_even_and_odd_counts(n, K, seed):
    R = np.random.default_rng(seed).normal(size=(n, K, 2, 3)).clip(0)
    ours = emblem(contraharmonic_mean(torch.from_numpy(R)))
    close(ours, [oracle.emblem(R[:, k]) for k in range(K)], 1e-12)


@many
@given(tensors(), st.floats(0, 2, width=32), st.floats(0, 2, width=32))
@example(None, 1.0, 1.0)
@example(None, 0.0, 0.0)
@example(None, 1.0, 2.0)
def test_concept_map(x, e_pos, e_neg):
    R = raw_map(x.F, x.v) if x is not None else torch.linspace(0, 3, 8).reshape(1, 1, 2, 4)
    K = R.shape[1]
    M = concept_map(R, torch.full((K,), e_pos), torch.full((K,), e_neg))
    assert M.min() >= 0
    assert M.max() <= 1
    if e_pos <= e_neg:
        assert not M.any()
    elif e_pos - e_neg > 1e-3:
        for n, k in np.ndindex(len(R), K):
            close(M[n, k], oracle.concept_map(double(R[n, k]), e_pos, e_neg), 1e-3)


@many
@given(tensors())
def test_relevance_and_attribution_map(x):
    B = attribution.positive_relevance(x.IG, x.F)
    s = attribution.class_share(x.z, x.z0)
    A = B * attribution.attribution_scale(B, s)[:, :, None, None, None]
    for n, t in x.indices("nt"):
        truth = oracle.relevance(double(x.IG[n, t]), double(x.F[n]))
        shares = oracle.class_shares(double(x.z[n]), double(x.z0[0]))
        close(B[n, t], truth, 1e-6)
        close(s[n, t], shares[t], 1e-6)
        close(A[n, t], oracle.attribution_map(truth, shares[t]), 1e-6)
        if truth.sum() > 1e-2:
            assert A[n, t].sum() == pytest.approx(shares[t], abs=2e-5)
    for n in range(len(s)):
        if s[n].any() and B[n, s[n].argmax()].sum() > 1e-2:
            assert A[n].sum((1, 2, 3)).max() == pytest.approx(1, abs=2e-5)


@many
@given(tensors(classes=st.just(1)))
def test_single_logit(x):
    B = attribution.binary_relevance(x.IG, x.F)
    s = attribution.relevance_share(B)
    for n in range(len(x.F)):
        IG, F = double(x.IG[n, 0]), double(x.F[n])
        truth = [oracle.relevance(IG, F, sign=-1), oracle.relevance(IG, F)]
        close(B[n], truth, 1e-6)
        close(s[n], oracle.over_the_largest([b.sum() for b in truth]), 1e-5)
    assert (s.amax(1) == 1).all()


@many
@given(tensors())
def test_pooled_cav_turns_signs_only_where_the_image_has_negative_maps(x):
    p = attribution.pooled_cav(x.v, x.F, x.M)
    for n, k in x.indices("nk"):
        close(p[n, k], oracle.pooled_cav(*map(double, (x.v[k], x.F[n], x.M[n, k]))), 1e-5)


def test_pooled_cav_of_a_direction_with_no_positive_entry_is_zero():
    F, M = torch.ones(1, 2, 1, 2), torch.ones(1, 1, 1, 2)
    assert attribution.pooled_cav(torch.tensor([[-1.0, 0.0]]), F, M).tolist() == [[[0.0, 0.0]]]


@many
@given(tensors())
def test_concept_attribution(x):
    B = attribution.positive_relevance(x.IG, x.F)
    s = attribution.class_share(x.z, x.z0)
    p = attribution.pooled_cav(x.v, x.F, x.M)
    a = attribution.concept_attribution(B, s, x.M, p)
    A = double(B * attribution.attribution_scale(B, s)[:, :, None, None, None])
    for n, t, k in x.indices("ntk"):
        truth = oracle.concept_attribution(A[n, t], double(x.M[n, k]), double(p[n, k]))
        close(a[n, t, k], truth, 1e-5)
        assert 0 <= a[n, t, k] <= s[n, t] + 1e-6


# -- the integral --------------------------------------------------------------------------------


def random_head(C, size, classes, act, seed):
    inputs = C * size[0] * size[1]
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 6), act(), nn.Linear(6, classes))
    return with_weights(net, seed)


def random_maps(N, C, size, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(N, C, *size))).float()


@few
@given(sides, map_sizes, st.sampled_from(list(ACTIVATIONS)), st.integers(1, 9), seeds)
def test_fixed_rule(C, size, act, steps, seed):
    head, F = random_head(C, size, 3, ACTIVATIONS[act], seed), random_maps(2, C, size, seed)
    classes = torch.tensor([[2, 0], [1, 1]])
    ours = integrate(head, F, classes, *trapezoid(steps), batch_size=3)
    exact = copy.deepcopy(head).double()
    for n, t in np.ndindex(2, 2):
        truth = oracle.integrated_gradients(exact, double(F[n]), int(classes[n, t]), steps)
        close(ours.IG[n, t], truth, 1e-5)
    assert ours.evaluations.tolist() == [steps + 1] * 2
    assert ours.error.isnan().all()


def test_steps_50_is_the_trapezoid_rule_of_51_points():
    alpha, weight = trapezoid(50)
    close(alpha, [i / 50 for i in range(51)], 1e-7)
    close(weight, [0.01] + [0.02] * 49 + [0.01], 1e-9)


@pytest.mark.parametrize("level", range(6))
def test_nested_levels_are_the_trapezoid_rule(level):
    points = {}
    for added in range(level + 1):
        points = {alpha: weight / 2 for alpha, weight in points.items()}
        alpha, weight = refinement(added)
        points |= dict(zip(alpha.tolist(), weight.tolist(), strict=True))
    alpha, weight = trapezoid(2**level)
    assert dict(sorted(points.items())) == dict(zip(alpha.tolist(), weight.tolist(), strict=True))


@few
@given(sides, map_sizes, st.sampled_from(["gelu", "elu"]), seeds)
def test_completeness_is_approached_as_steps_grow(C, size, act, seed):
    head, F = random_head(C, size, 2, ACTIVATIONS[act], seed), random_maps(1, C, size, seed)
    rise = (head(F) - head(0 * F))[0].detach()

    def gap(steps):
        integral = integrate(head, F, torch.tensor([[0, 1]]), *trapezoid(steps), batch_size=64)
        return float(((integral.IG * F[:, None]).sum((2, 3, 4))[0] - rise).abs().max())

    assert gap(256) <= max(gap(4) / 4, 1e-4)
    assert gap(256) <= 2e-3 * float(1 + rise.abs().max())


# -- the whole method ----------------------------------------------------------------------------


def explained_by(explainer, model=None, layers=None, **options):
    """An explainer with the CAVs of another one."""
    return vtcav.VisualTCAV(
        model or explainer.model, layers or explainer.layers, cavs=explainer.cavs, **options
    )


def values(explanation, column="attribution"):
    """A column of the attributions, by what each number belongs to instead of by its place."""
    table = explanation.attributions
    keys = ["layer", "concept", "class_index"]
    keys = ["image", *keys] if "image" in table else keys
    return table.set_index(keys)[column].sort_index()


def same(one, other, atol=1e-6):
    pd.testing.assert_series_equal(one, other, rtol=0, atol=atol, check_exact=False)


MEAN, STD = (0.5, 0.4, 0.6), (0.25, 0.3, 0.2)


@dataclass
class Case:
    """A random network with concepts and images, for the public API and for the oracle."""

    net: nn.Sequential
    layers: list[int]
    size: tuple[int, int]
    examples: list[np.ndarray]
    negatives: list[np.ndarray]
    images: np.ndarray
    binary: bool

    def explainer(self, **options):
        model = vtcav.Classifier(
            self.net,
            preprocess=vtcav.Preprocess(self.size, resize="stretch", mean=MEAN, std=STD),
            binary=self.binary,
        )
        explainer = vtcav.VisualTCAV(model, [str(layer) for layer in self.layers], **options)
        examples = {f"concept {k}": images for k, images in enumerate(self.examples)}
        negatives = dict(zip(examples, self.negatives, strict=True))
        return explainer.fit(
            examples,
            self.negatives[0] if len(set(map(id, self.negatives))) == 1 else negatives,
            min_examples=1,
        )

    def maps(self, layer, images):
        """F of each image, in float64."""
        lower = copy.deepcopy(self.net[: layer + 1]).double()
        x = (images / 255 - np.array(MEAN)) / np.array(STD)
        with torch.no_grad():
            return [lower(torch.from_numpy(one).movedim(-1, 0)[None])[0].numpy() for one in x]

    def cavs(self, layer):
        pairs = zip(self.examples, self.negatives, strict=True)
        return [oracle.learn(self.maps(layer, e), self.maps(layer, n)) for e, n in pairs]

    def upper(self, layer):
        return copy.deepcopy(self.net[layer + 1 :]).double()


@st.composite
def cases(draw, *, images=1, hidden=5):
    C1, C2, K = draw(sides), draw(sides), draw(st.integers(1, 4))
    h, w = draw(map_sizes)
    binary = draw(st.integers(0, 3), label="binary when 0") == 0
    act = ACTIVATIONS[draw(st.sampled_from(list(ACTIVATIONS)))]
    net = nn.Sequential(
        nn.Conv2d(3, C1, 2, stride=2),
        act(),
        nn.Conv2d(C1, C2, 3, padding=1),
        act(),
        nn.Flatten(),
        nn.Linear(C2 * h * w, hidden),
        act(),
        nn.Linear(hidden, 1 if binary else draw(st.integers(2, 5))),
    )
    seed = draw(seeds)
    numbers = (seed + i for i in itertools.count())

    def some(count):
        return pictures(count, next(numbers), size=(2 * h, 2 * w))

    counts = st.integers(1, 5)
    shared = [some(draw(counts))] * K if draw(st.booleans(), label="shared negatives") else None
    return Case(
        with_weights(net, seed),
        draw(st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True).map(sorted)),
        (2 * h, 2 * w),
        examples=[some(draw(counts)) for _ in range(K)],
        negatives=shared or [some(draw(counts)) for _ in range(K)],
        images=some(images),
        binary=binary,
    )


def settled(cavs, truth):
    """Whether rounding to float32 leaves every decision of the method as it is."""
    return (
        all(
            max(cav.e_pos, cav.e_neg) == 0
            or abs(cav.e_pos - cav.e_neg) > 1e-2 * (cav.e_pos + cav.e_neg)
            for cav in cavs
        )
        and all(not M.any() or min(abs((truth.F * M).sum((1, 2)))) > 1e-4 for M in truth.M)
        and all(share == 0 or share > 1e-3 for share in truth.s)
    )


@settings(few, max_examples=25)
@given(cases(), st.sampled_from([1, 4, 10, 50]))
def test_local_explanation(case, steps):
    explainer = case.explainer(steps=steps)
    local = explainer.explain(case.images[0], classes=9)
    rows = local.attributions.set_index(["layer", "concept", "class_index"])
    K, T = len(case.examples), len(explainer.model.class_names)
    assert len(rows) == len(case.layers) * K * T
    for layer in case.layers:
        learned, truth_cavs = explainer.cavs.layers[str(layer)], case.cavs(layer)
        (F,) = case.maps(layer, case.images)
        truth = oracle.explain(case.upper(layer), F, truth_cavs, steps=steps, binary=case.binary)
        assume(settled(truth_cavs, truth))
        for k in range(K):
            name, cav = f"concept {k}", truth_cavs[k]
            close(learned.v[k], cav.v, 1e-5 * max(1, np.linalg.norm(cav.v)))
            close([learned.e_pos[k], learned.e_neg[k]], [cav.e_pos, cav.e_neg], 1e-4)
            M = local.concept_map(str(layer), name)
            assert M.min() >= 0
            assert M.max() <= 1
            close(M, truth.M[k], 1e-3)
            for t in range(T):
                row = rows.loc[str(layer), name, t]
                assert row.attribution == pytest.approx(truth.a[t, k], abs=1e-4)
                assert 0 <= row.attribution <= truth.s[t] + 1e-5
                assert row.separated == (cav.e_pos > cav.e_neg)
                assert row.note.startswith("not separated") == (not row.separated)
                assert row.separated or row.attribution == 0
                assert row.evaluations in {steps + 1, steps + 1 if truth.s[t] > 0 else 0}


@few
@given(cases(images=3), st.data())
def test_global_explanation(case, data):
    explainer = case.explainer(steps=5, batch_size=2)
    names = explainer.model.class_names
    t = data.draw(st.integers(0, len(names) - 1), label="class")
    glob = explainer.explain_class(names[t], list(case.images))
    table = glob.attributions
    assert table["image"].unique().tolist() == ["array[0]", "array[1]", "array[2]"]
    for layer in case.layers:
        cavs, upper = case.cavs(layer), case.upper(layer)
        truth = [
            oracle.explain(upper, F, cavs, steps=5, binary=case.binary)
            for F in case.maps(layer, case.images)
        ]
        assume(all(settled(cavs, image) for image in truth))
        for k in range(len(cavs)):
            rows = table.query(
                "layer == @layer and concept == @concept",
                local_dict={"layer": str(layer), "concept": f"concept {k}"},
            )
            expected = [image.a[t, k] for image in truth]
            close(rows["attribution"], expected, 1e-4)
            found = glob.summary().set_index(["layer", "concept"]).loc[str(layer), f"concept {k}"]
            close(found[["mean", "std", "sem"]], oracle.summary(expected), 2e-4)
            assert found.n == 3


@few
@given(cases(images=2, hidden=24))
def test_adaptive_agrees_with_512_steps_within_its_error(case):
    # the error is an estimate, which a few of many exceed, by little
    explainer = case.explainer()
    fine = explained_by(explainer, steps=512, batch_size=128)
    for image in case.images:
        ours, truth = explainer.explain(image, 9).attributions, fine.explain(image, 9).attributions
        inexact = 1e-2 * truth["attribution"].clip(lower=0.01)
        assert (abs(ours["attribution"] - truth["attribution"]) <= ours["error"] + inexact).all()
        # at most 257 equidistant points, a last look, 18 to grade the spacing, 257 on it
        raised = ours["raised"]
        assert ours["evaluations"][raised].between(1, 257 + 2 + 18 + 257).all()
        assert (truth["attribution"][~raised] == 0).all()
        converged = ~ours["note"].str.contains("above the tolerance")
        assert (ours["evaluations"][~converged] >= 128).all()


# -- what must not matter ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


IMAGES = pictures(5, seed=4)


@pytest.mark.parametrize("steps", ["adaptive", 20])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size(batch_size, steps):
    ours, other = small_explainer(steps=steps, batch_size=batch_size), small_explainer(steps=steps)
    for layer, cavs in ours.cavs.layers.items():
        for field in ("v", "e_pos", "e_neg"):
            theirs = getattr(other.cavs.layers[layer], field)
            torch.testing.assert_close(getattr(cavs, field), theirs, rtol=1e-5, atol=1e-6)
    # points crowd where the logits change, which rounding shifts a little
    for column, atol in (("attribution", 5e-5), ("evaluations", 0)):
        one, another = (values(e.explain_class("fox", IMAGES), column) for e in (ours, other))
        same(one, another, atol)
        one, another = (values(e.explain(IMAGES[0]), column) for e in (ours, other))
        same(one, another, atol)


def test_order_of_the_images(explainer, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    forwards = explainer.explain_class("fox", paths)
    backwards = explainer.explain_class("fox", paths[::-1])
    same(values(forwards), values(backwards))
    assert backwards.attributions["image"].iloc[0] == str(paths[-1])
    turned = vtcav.VisualTCAV(explainer.model, explainer.layers).fit(
        {name: images[::-1] for name, images in concepts().items()}, negatives()[::-1]
    )
    same(values(forwards), values(turned.explain_class("fox", paths)), 1e-5)


def test_order_of_the_concepts(explainer):
    named = concepts()
    turned = vtcav.VisualTCAV(explainer.model, explainer.layers).fit(
        {name: named[name] for name in reversed(named)}, negatives()
    )
    assert turned.cavs.names == explainer.cavs.names[::-1]
    one, other = (e.explain(IMAGES[0]) for e in (explainer, turned))
    same(values(one), values(other))
    for name in named:
        close(one.concept_map("3", name), other.concept_map("3", name), 1e-6)


def test_order_of_the_layers(explainer):
    turned = explained_by(explainer, layers=["3", "1"])
    assert turned.layers == ["1", "3"]
    one, other = (e.explain(IMAGES[0]).attributions for e in (explainer, turned))
    pd.testing.assert_frame_equal(one, other)


def test_concepts_and_layers_beside_each_other_do_not_matter(explainer):
    together = explained_by(explainer, steps=20).explain(IMAGES[0], classes=3)
    alone = vtcav.VisualTCAV(explainer.model, ["3"], 20).fit(
        {"cold": concepts()["cold"]}, negatives()
    )
    alone = values(alone.explain(IMAGES[0], classes=["fox"]))
    same(alone, values(together).loc[alone.index])


def test_negatives_of_its_own_are_those_of_the_concept_alone(explainer):
    own = {"bright": pictures(6, seed=8), "cold": pictures(4, seed=9)}
    apart = vtcav.VisualTCAV(explainer.model, explainer.layers)
    apart.fit(concepts(), own, min_examples=4)
    for k, (name, images) in enumerate(concepts().items()):
        alone = vtcav.VisualTCAV(explainer.model, explainer.layers)
        alone.fit({name: images}, own[name], min_examples=4)
        for layer, cavs in alone.cavs.layers.items():
            for field in ("v", "e_pos", "e_neg"):
                ours = getattr(apart.cavs.layers[layer], field)[k]
                torch.testing.assert_close(ours, getattr(cavs, field)[0])


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-5), (torch.bfloat16, 0.05)], ids=str
)
def test_dtype_of_the_network(explainer, dtype, atol):
    model = small_model(small_net().to(dtype))
    other = small_explainer(model, steps=20)
    one = explained_by(explainer, steps=20).explain(IMAGES[0])
    assert one.attributions["attribution"].max() > 0.1
    same(values(one), values(other.explain(IMAGES[0])), atol)
    close(one.concept_map("3", "bright"), other.explain(IMAGES[0]).concept_map("3", "bright"), atol)


# -- classes -------------------------------------------------------------------------------------


def test_the_share_of_a_class_does_not_depend_on_the_classes_asked_for(explainer):
    explainer = explained_by(explainer, steps=20)
    everything = values(explainer.explain(IMAGES[1], classes=3))
    for t in range(3):
        same(
            values(explainer.explain(IMAGES[1], classes=[t])),
            everything.xs(t, level=2, drop_level=False),
        )


def test_the_most_probable_classes_come_first(explainer):
    local = explainer.explain(IMAGES[0], classes=2)
    assert local.predictions["probability"].is_monotonic_decreasing
    assert local.predictions["probability"].sum() == pytest.approx(1)
    order = local.attributions["class_index"].unique().tolist()
    assert order == local.predictions["class_index"].tolist()[:2]


def test_more_top_classes_than_there_are(explainer):
    assert explainer.explain(IMAGES[0], classes=10).attributions["class_index"].nunique() == 3


def test_classes_by_name_and_index_in_the_order_asked_for_and_once_each(explainer):
    table = explainer.explain(IMAGES[0], classes=["fox", 0, "fox", 2, "0"]).attributions
    assert table["class_name"].tolist() == ["fox", "cat"] * 4


def test_one_class_by_its_name(explainer):
    table = explainer.explain(IMAGES[0], classes="dog").attributions
    assert set(table["class_name"]) == {"dog"}
    assert len(table) == 4


# -- concepts that a layer does not separate -----------------------------------------------------


def test_not_separated_is_flagged_everywhere(explainer):
    swapped = {
        name: replace(cavs, e_pos=cavs.e_neg, e_neg=cavs.e_pos) if name == "3" else cavs
        for name, cavs in explainer.cavs.layers.items()
    }
    assert all(cavs.separated.all() for cavs in explainer.cavs.layers.values())
    bank = replace(explainer.cavs, layers=swapped)
    flagged = vtcav.VisualTCAV(explainer.model, cavs=bank)
    local, glob = flagged.explain(IMAGES[0]), flagged.explain_class("fox", IMAGES)
    for table in (local.attributions, glob.attributions, glob.summary(), bank.table()):
        assert (table["separated"] == (table["layer"] == "1")).all()
    for table in (local.attributions, glob.attributions, glob.summary()):
        notes = table.set_index("layer")["note"]
        assert notes.loc["3"].str.startswith("not separated: e+ <= e-").all()
        assert not notes.loc["1"].str.contains("separated").any()
    assert not local.concept_map("3", "bright").any()
    assert not values(local).loc["3"].any()
    assert values(local).loc["1"].any()


def test_a_concept_of_its_own_negatives_is_not_separated():
    explainer = vtcav.VisualTCAV(small_model(), ["1"])
    explainer.fit({"nothing": IMAGES}, IMAGES)
    assert not explainer.cavs.table()["separated"].any()
    assert explainer.explain(IMAGES[0]).attributions["note"].str.startswith("not separated").all()


def test_a_class_that_does_not_rise_is_noted(explainer):
    local = explainer.explain(IMAGES[0], classes=3)
    zero = values(local, "note").str.contains("does not raise this class")
    assert zero.any()
    assert (values(local, "raised") == ~zero).all()
    assert (values(local)[zero] == 0).all()
    assert (values(local).xs(2, level="class_index") > 0.1).all()


@pytest.mark.parametrize("n", [1, 2, 5, 8, 31])
def test_the_emblem_is_the_nearest_rank_where_the_count_is_odd(n):
    # the first implementation takes the nearest rank, the paper says the median
    values = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    nearest = np.percentile(values.numpy(), 50, method="nearest")
    assert emblem(values).item() == pytest.approx(np.median(values.numpy()), rel=1e-12)
    assert (emblem(values).item() == pytest.approx(nearest, rel=1e-12)) == (n % 2 == 1)
