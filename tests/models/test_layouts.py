"""Channels last, tokens and containers: found, shown, converted, and explained honestly."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import vtcav
from tests.helpers.nets import check_head, classifier, gradient, names, noise, refused, truth
from tests.helpers.small import pictures, with_weights
from tests.helpers.tokens import ChannelsLast, Mixing, Transformer
from vtcav.errors import LayerError
from vtcav.method.integral.trapezoid import integrate, trapezoid
from vtcav.models.inspection.layout import Evidence, Layout, find_layout
from vtcav.models.inspection.nested_tensors import (
    first_tensor,
    map_tensors,
    replaced,
    tensor_at,
    tensor_count,
)

SIZE = 16

# --- Layout: to maps and back -------------------------------------------------------------------


@given(
    st.sampled_from(["NCHW", "NHWC", "tokens(3x4)", "tokens(1+3x4)", "tokens(5+3x4)"]),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_from_maps_undoes_to_maps(text, N, C):
    layout = Layout.parse(text)
    assert str(layout) == text
    shape = {"NCHW": (N, C, 3, 4), "NHWC": (N, 3, 4, C)}.get(text, (N, layout.prefix + 12, C))
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    F = layout.to_maps(tensor, (12, 16))
    assert F.shape == (N, C, 3, 4)
    back = layout.from_maps(F, tensor, layout.prefix_of(tensor))
    assert torch.equal(back, tensor)


def test_maps_of_tokens_are_row_by_row():
    tokens = torch.tensor([[[9.0], [0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]])
    F = Layout.parse("tokens(1+2x3)").to_maps(tokens, (8, 12))
    assert F.tolist() == [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]]


def test_the_grid_of_images_of_another_size():
    layout = Layout("tokens", 1, (4, 4), (32, 32))
    for image, grid in {
        (32, 32): (4, 4),
        (32, 64): (4, 8),
        (64, 24): (8, 3),
        (30, 33): (4, 5),
    }.items():
        tokens = torch.zeros(2, 1 + grid[0] * grid[1], 5)
        assert layout.to_maps(tokens, image).shape == (2, 5, *grid)
    with pytest.raises(LayerError, match="7 tokens of an image of 32 x 32 form no grid like 4 x 4"):
        layout.to_maps(torch.zeros(1, 8, 5), (32, 32))


@pytest.mark.parametrize("text", ["nchw", "tokens", "tokens(196)", "tokens(1 14x14)", 3, ""])
def test_other_texts_are_no_layouts(text):
    with pytest.raises(LayerError, match=r"unknown layout .*expected \"NCHW\", \"NHWC\""):
        Layout.parse(text)


@pytest.mark.parametrize(
    ("shape", "known", "expected"),
    [
        ((1, 96, 56, 56), {}, "NCHW"),
        ((1, 56, 56, 96), {}, "NHWC"),
        ((1, 7, 10, 9), {"image": (224, 320)}, "NHWC"),  # 7 : 10 as the image
        ((1, 40, 40, 40), {}, "NCHW"),  # nothing tells
        ((1, 40, 40, 40), {"other": (1, 40, 40, 80)}, "NCHW"),
        ((1, 40, 40, 40), {"other": (1, 40, 80, 40)}, "NHWC"),
        ((1, 197, 192), {"grids": [(14, 14)]}, "tokens(1+14x14)"),
        ((1, 198, 192), {"grids": [(14, 14)]}, "tokens(2+14x14)"),
        ((1, 196, 192), {"grids": [(56, 56), (14, 14)]}, "tokens(14x14)"),
        ((1, 257, 256), {"grids": [(16, 16)]}, "tokens(1+16x16)"),
        ((1, 49, 768), {"grids": [(56, 56)]}, "tokens(7x7)"),  # merged patches
        ((1, 64, 64), {"grids": [(16, 16)], "widths": [64]}, "tokens(8x8)"),
        ((1, 64, 256), {"grids": [(16, 16)]}, None),  # [1, C, h w]
        ((1, 64, 256), {"grids": [(16, 16)], "widths": [256]}, "tokens(8x8)"),
        ((1, 100, 64), {"grids": [(14, 14)]}, None),
        ((1, 17 + 196, 64), {"grids": [(14, 14)]}, None),  # more prefix tokens than any network
        ((1, 197, 192), {}, "tokens(1+14x14)"),  # patches without a convolution
        ((1, 150, 192), {"image": (160, 240)}, "tokens(10x15)"),
        ((1, 201, 192), {}, None),
        ((1, 201, 192), {"prefixes": [5]}, "tokens(5+14x14)"),
        ((1, 1, 192), {}, None),
        ((1, 192), {}, None),
        ((1, 3, 8, 14, 14), {}, None),
    ],
)
def test_the_layout_that_a_shape_tells(shape, known, expected):
    found = find_layout(shape, Evidence(**{"image": (224, 224), **known}))
    assert (found and str(found)) == expected


# --- containers ---------------------------------------------------------------------------------

Pair = namedtuple("Pair", "maps extra")


@dataclass
class Output:
    maps: torch.Tensor
    extra: object = None


@dataclass(frozen=True)
class Frozen:
    extra: object
    maps: torch.Tensor


FORMS = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, None),
    "list": lambda y: [None, y],
    "named tuple": lambda y: Pair(y, (3, 4)),
    "dict": lambda y: {"extra": None, "maps": y},
    "ordered": lambda y: OrderedDict(maps=y),
    "dataclass": lambda y: Output(y),
    "frozen": lambda y: Frozen((1, 2), y),
    "nested": lambda y: (None, {"deep": [y]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_containers_are_taken_apart_and_put_together(form):
    make, tensor = FORMS[form], torch.arange(3.0)
    part, found = first_tensor(make(tensor))
    assert found is tensor
    assert tensor_count(make(tensor)) == 1
    whole = make(tensor)
    other = replaced(whole, part, tensor + 1)
    assert type(other) is type(whole)
    assert torch.equal(tensor_at(other, part), tensor + 1)
    assert tensor_at(whole, part) is tensor
    doubled = map_tensors(whole, lambda t: 2 * t)
    assert type(doubled) is type(whole)
    assert torch.equal(tensor_at(doubled, part), 2 * tensor)


class Gives(nn.Module):
    """A convolution that gives its maps in a container."""

    def __init__(self, form):
        super().__init__()
        self.conv, self.form = nn.Conv2d(3, 5, 3, 2, 1), form

    def forward(self, x):
        return FORMS[self.form](self.conv(x))


class Takes(nn.Module):
    def __init__(self, form, late=False):
        super().__init__()
        self.inside, self.fc, self.late = Gives(form), nn.Linear(5, 3), late
        with_weights(self, 0)

    def forward(self, x):
        _, maps = first_tensor(self.inside(x))
        return self.fc(torch.tanh(maps).mean((2, 3)).view(len(x) if self.late else -1, 5))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("late", [False, True])
def test_a_layer_may_give_its_maps_in_a_container(form, late):
    net = Takes(form, late)
    model = classifier(net)
    assert names(model) == ["inside.conv", "inside"]
    maps = model.activations(noise(2), ["inside", "inside.conv"])
    assert torch.equal(maps["inside"], maps["inside.conv"])
    expected = check_head(net, "inside.conv", model=model).head("inside.conv")
    head = model.head("inside")
    assert head.resume == ("expanded" if late else "single")
    for got, wanted in zip(
        gradient(head, maps["inside"]), gradient(expected, maps["inside"]), strict=True
    ):
        torch.testing.assert_close(got, wanted)


# --- channels last ------------------------------------------------------------------------------


def test_channels_last():
    net = ChannelsLast()
    model = classifier(net)
    found = [(layer.name, layer.shape, layer.layout) for layer in model.layers()]
    assert found == [
        ("stem", (5, 8, 8), "NCHW"),
        ("act", (5, 8, 8), "NCHW"),
        ("mlp", (5, 8, 8), "NHWC"),
        ("norm", (5, 8, 8), "NHWC"),
    ]
    x = noise(2)
    maps, z = model.activations_and_logits(x, ["norm"])
    with torch.no_grad():
        expected = net.norm(net.mlp(net.act(net.stem(x)).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps["norm"], expected)
    got_z, got_G = gradient(model.head("norm"), maps["norm"])
    by_hand = expected.clone().requires_grad_()
    wanted = net.fc(torch.tanh(by_hand).mean((2, 3)))
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3))
    G = torch.autograd.grad((wanted * weights).sum(), by_hand)[0]
    torch.testing.assert_close(got_z, z)
    torch.testing.assert_close(got_G, G)


def test_a_second_size_tells_what_one_size_leaves_open():
    net = ChannelsLast(width=8)  # [1, 8, 8, 8] in either order
    found = {layer.name: layer.layout for layer in classifier(net).layers()}
    assert found == {"stem": "NCHW", "act": "NCHW", "mlp": "NHWC", "norm": "NHWC"}

    class OneSize(nn.Module):
        def forward(self, x):
            if x.shape[-1] != SIZE:
                raise ValueError("images of 16 x 16 only")
            return x

    fixed = nn.Sequential(OneSize(), net)
    layouts = {"1.mlp": "NHWC", "*.norm": "NHWC"}
    assert {layer.layout for layer in classifier(fixed).layers()} == {"NCHW"}
    said = vtcav.Classifier(fixed, None, vtcav.Preprocess(SIZE), layouts=layouts)
    assert [layer.layout for layer in said.layers()] == ["NCHW"] * 3 + ["NHWC"] * 2


def test_an_override_must_fit():
    def model(layouts):
        return vtcav.Classifier(ChannelsLast(), None, vtcav.Preprocess(SIZE), layouts=layouts)

    with pytest.raises(LayerError, match=r"'norm' cannot have the layout tokens\(8x8\) .* \[N, 64"):
        model({"norm": "tokens(8x8)"})
    with pytest.raises(LayerError, match=r"unknown layout 'channels last'"):
        model({"norm": "channels last"})
    with pytest.raises(LayerError, match=r"layouts names 'nrom', .* no layer.*'norm'"):
        model({"nrom": "NHWC"})
    assert model({"*": "tokens(8x8)"}).layers()[0].layout == "NCHW"  # a pattern holds where it fits
    assert model({"norm": Layout("NHWC")}).layers()[-1].layout == "NHWC"


# --- tokens -------------------------------------------------------------------------------------


def test_tokens_without_a_class_token():
    net = Transformer(prefix=0, pool="mean")
    model = classifier(net)
    assert {layer.layout for layer in model.layers()} == {"NCHW", "tokens(4x4)"}
    assert [layer.name for layer in model.check_layers(None)] == [
        *("blocks.0", "blocks.1", "blocks.2"),
        "norm",
    ]
    x = noise(2)
    maps, z = model.activations_and_logits(x, ["blocks.1"])
    with torch.no_grad():
        tokens = net.blocks[1](net.blocks[0](net.tokens(x)))
    assert torch.equal(maps["blocks.1"], tokens.mT.reshape(2, 6, 4, 4))
    head = model.head("blocks.1")
    assert not head.per_image
    assert head.of(x) is head
    assert head.rows(torch.tensor([0])) is head
    torch.testing.assert_close(head(maps["blocks.1"]), z)


@pytest.mark.parametrize("prefix", [1, 2, 5])
@pytest.mark.parametrize("pool", ["token", "mean"])
@pytest.mark.parametrize("patches", ["conv", "unfold"])
def test_prefix_tokens_are_held_and_the_grid_is_explained(prefix, pool, patches):
    net = Transformer(prefix=prefix, pool=pool, patches=patches)
    if patches == "unfold":
        net.num_prefix_tokens = prefix
    model = classifier(net)
    shown = {layer.name: layer.layout for layer in model.layers()}
    assert shown["blocks.2"] == f"tokens({prefix}+4x4)"
    x = noise(3)
    maps, z = model.activations_and_logits(x, ["blocks.1"])
    F = maps["blocks.1"]
    head = model.head("blocks.1").of(x)
    assert head.per_image
    torch.testing.assert_close(head(F), z)

    def by_hand(F):
        """The rest of the network, written out, with the prefix tokens of the images."""
        with torch.no_grad():
            tokens = net.blocks[1](net.blocks[0](net.tokens(x)))
        whole = torch.cat([tokens[:, :prefix], F.flatten(2).mT], 1)
        y = net.norm(net.blocks[3](net.blocks[2](whole)))
        return net.fc(y[:, 0] if pool == "token" else y[:, prefix:].mean(1))

    for maps_ in (F, 0.3 * F, torch.zeros_like(F)):
        for got, wanted in zip(gradient(head, maps_), gradient(by_hand, maps_), strict=True):
            torch.testing.assert_close(got, wanted)
    assert (head(0 * F) - head(F)).abs().max() > 0.01
    # the baseline differs from image to image: the prefix tokens are each image's own
    z0 = head(0 * F)
    assert (z0[0] - z0[1]).abs().max() > 1e-5


def test_rows_choose_among_the_images():
    net = Transformer()
    model, x = classifier(net), noise(4)
    maps, z = model.activations_and_logits(x, ["blocks.0"])
    F, head = maps["blocks.0"], model.head("blocks.0").of(x)
    index = torch.tensor([3, 1, 1])
    torch.testing.assert_close(head.rows(index)(F[index]), z[index])
    assert (head.rows(index)(F[:3]) - z[:3]).abs().max() > 1e-3  # the others' class tokens
    alone = model.head("blocks.0").of(x[:1])  # one image stands for any number of maps
    torch.testing.assert_close(alone(F[:1].expand(5, -1, -1, -1)), z[:1].expand(5, -1))
    assert alone.rows(torch.tensor([0, 0])) is alone


def test_a_head_with_prefix_tokens_must_be_told_the_images():
    model, x = classifier(Transformer()), noise(3)
    F = model.activations(x, ["blocks.0"])["blocks.0"]
    head = model.head("blocks.0")
    with pytest.raises(LayerError, match=r"'blocks.0' has 1 prefix tokens .*head.of\(images\)"):
        head(F)
    with pytest.raises(LayerError, match=r"maps of the 3 images .* got 2; choose .*head.rows"):
        head.of(x)(F[:2])


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_integrated_gradients_of_the_grid_are_complete(prefix):
    """sum(IG F) over the grid is z(F) - z(0), with the prefix tokens as they are in both."""
    model = classifier(Transformer(prefix=prefix, pool="token" if prefix else "mean"))
    x, classes = noise(1), torch.tensor([[0, 1, 2]])
    for layer in model.check_layers(None):
        maps, z = model.activations_and_logits(x, [layer.name])
        F, head = maps[layer.name], model.head(layer.name).of(x)
        IG = integrate(head, F, classes, *trapezoid(128), batch_size=129).IG
        total = (IG * F[:, None]).sum((2, 3, 4))
        torch.testing.assert_close(total, z - head(0 * F), rtol=5e-3, atol=5e-3)


def test_the_last_block_before_a_class_token_is_refused():
    model = classifier(Transformer(blocks=4))
    assert "blocks.2" in names(model)
    why = "'blocks.3' .* comes too late: after it the network only reads the class token, and none"
    message = refused(model, "blocks.3", why)
    assert message.endswith("The nearest usable layers: 'blocks.2'")
    for late in ("blocks", "norm"):
        refused(model, late, f"'{late}' .* only reads the class token")
    registers = classifier(Transformer(prefix=5))
    refused(registers, "blocks.3", "only reads the 5 prefix tokens, and none of the 4 x 4 tokens")
    pooled = classifier(Transformer(pool="mean"))
    assert names(pooled)[-2:] == ["blocks", "norm"]


@pytest.mark.parametrize(
    ("blocks", "pool", "expected"),
    [
        (12, "token", "2 5 8 10"),
        (12, "mean", "2 5 8 norm"),
        (8, "mean", "1 3 5 norm"),
        (4, "mean", "0 1 2 norm"),
        (3, "mean", "norm"),
        (3, "token", "1"),
    ],
)
def test_the_recommended_blocks_are_spread_over_the_depth(blocks, pool, expected):
    model = classifier(Transformer(blocks=blocks, pool=pool))
    found = [layer.name.removeprefix("blocks.") for layer in model.check_layers(None)]
    assert found == expected.split()


class Sequence(nn.Module):
    """Maps as [N, C, h w], which are no tokens."""

    def __init__(self):
        super().__init__()
        self.stem, self.flat, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), nn.Linear(4, 3)
        with_weights(self, 0)

    def forward(self, x):
        return self.fc(torch.tanh(self.flat(self.stem(x))).mean(2))


def test_a_sequence_with_the_channels_first_is_no_row_of_tokens():
    message = refused(classifier(Sequence()), "flat", r"a tensor of shape \(1, 4, 16\)")
    assert "layouts=" in message


def test_tokens_of_images_of_another_size():
    net = Transformer(pool="mean")
    maps = classifier(net).activations(torch.randn(1, 3, 8, 24), ["blocks.1"])
    assert maps["blocks.1"].shape == (1, 6, 2, 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tokens_in_other_precisions(dtype):
    net = Transformer().to(dtype)
    model, x = classifier(net), noise(2)
    maps, z = model.activations_and_logits(x, ["blocks.1"])
    head = model.head("blocks.1").of(x)
    assert maps["blocks.1"].dtype == z.dtype == torch.float32
    assert head.prefix.dtype == dtype
    torch.testing.assert_close(head(maps["blocks.1"]), z)


class Twice(Transformer):
    """Something else than the tokens of the grid and the prefix reaches the scores."""

    def forward(self, x):
        y = self.blocks(self.tokens(x))
        return self.fc(self.norm(y)[:, 0] + 0.3 * x.detach().mean((2, 3)).repeat(1, 2))


def test_a_detached_bypass_of_tokens_is_found():
    model = classifier(Twice())
    with pytest.raises(LayerError, match=r"'blocks.1' .* gives other scores"):
        model.head("blocks.1")


def test_integrate_takes_a_bound_head():
    model, x = classifier(Transformer()), noise(2)
    F = model.activations(x, ["blocks.1"])["blocks.1"]
    classes = torch.tensor([[0, 2], [1, 0]])
    both = integrate(model.head("blocks.1").of(x), F, classes, *trapezoid(4), batch_size=3).IG
    for n in range(2):
        head = model.head("blocks.1").of(x[n : n + 1])
        alone = integrate(head, F[n : n + 1], classes[n : n + 1], *trapezoid(4), batch_size=8).IG
        torch.testing.assert_close(both[n], alone[0])


def test_blocks_inside_of_a_block_are_bypassed():
    assert isinstance(Transformer().blocks[0], Mixing)
    refused(classifier(Transformer()), "blocks.1.mlp", "is bypassed")


def test_the_replay_of_tokens_is_the_plain_pass():
    net = Transformer(pool="mean", prefix=0)
    model, x = classifier(net), noise(2)
    F = model.activations(x, ["blocks.1"])["blocks.1"]
    leaf = F.clone().flatten(2).mT
    expected_z, expected_G = truth(net, "blocks.1", x, leaf)
    got_z, got_G = gradient(model.head("blocks.1"), F)
    torch.testing.assert_close(got_z, expected_z)
    torch.testing.assert_close(got_G.flatten(2).mT, expected_G)


def test_many_images_with_class_tokens_are_explained_as_each_alone():
    """Every image is integrated with its own class token, also in a batch and when refined."""
    names = ["cat", "dog", "fox"]
    model = vtcav.Classifier(Transformer(), names, vtcav.Preprocess(16, mean=0.5, std=0.25))
    for steps in (6, "adaptive"):
        explainer = vtcav.VisualTCAV(model, ["blocks.0", "blocks.2"], steps, progress=False)
        explainer.fit({"bright": pictures(6, seed=1, low=150)}, pictures(7, seed=3))
        images = pictures(5, seed=6)
        together = explainer.explain_class("dog", images).attributions
        alone = [explainer.explain(image, classes=["dog"]).attributions for image in images]
        for layer in ("blocks.0", "blocks.2"):
            expected = [of_layer(table, layer).item() for table in alone]
            got = of_layer(together, layer).to_list()
            # points crowd where the logits change, which rounding shifts a little
            rel = 2e-3 if steps == "adaptive" else 0
            assert got == pytest.approx(expected, abs=1e-6, rel=rel)
        assert together["attribution"].max() > 0.01
        assert together["attribution"].max() <= 1


def of_layer(table, layer):
    return table[table["layer"] == layer]["attribution"]
