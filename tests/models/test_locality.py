"""What is no grid is not taken for maps: a change in one part of the picture tells."""

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.nets import noise
from vtcav.errors import LayerError

SIZE = 32


class Tokens(nn.Module):
    """8 x 8 tokens in an order of its own (None: row by row), each worked on by itself."""

    def __init__(self, order=None, attention=False):
        super().__init__()
        torch.manual_seed(1)
        self.order, self.attention = order, attention
        self.embed = nn.Conv2d(3, 12, 4, stride=4)
        self.sorted, self.mlp, self.fc = nn.Identity(), nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.order is not None:
            x = x[:, self.order]
        x = self.sorted(x * 1)
        if self.attention:
            x = torch.softmax(0.01 * x @ x.transpose(1, 2), -1) @ x
        return self.fc(torch.relu(self.mlp(x)).mean(1))


class Blocks(nn.Module):
    """Windows of 8 x 8 maps: [N, 16, 4, C], [N, C, 4, 16], or maps again."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(2)
        self.form = form
        self.embed, self.act = nn.Conv2d(3, 8, 4, stride=4), nn.GELU()
        self.parted, self.fc = nn.Tanh(), nn.Linear(8, 4)
        self.mix = nn.Linear(8, 8)

    def forward(self, x):
        x = self.act(self.embed(x))
        n, c = x.shape[:2]
        x = x.reshape(n, c, 4, 2, 4, 2)
        if self.form == "blocks":
            x = self.parted(self.mix(x.permute(0, 2, 4, 3, 5, 1).reshape(n, 16, 4, c))).mean((1, 2))
        else:
            x = self.parted(x.permute(0, 1, 3, 5, 2, 4).reshape(n, c, 4, 16)).mean((2, 3))
        return self.fc(x)


def model(net, **options):
    return vtcav.Classifier(net.eval(), None, vtcav.Preprocess(SIZE), **options)


def names(found):
    return [layer.name for layer in found.layers()]


def by_windows():
    """The order of 2 x 2 windows of 4 x 4 tokens, window by window."""
    grid = torch.arange(64).reshape(2, 4, 2, 4)
    return grid.permute(0, 2, 1, 3).reshape(-1)


@pytest.mark.parametrize(
    "order", [torch.randperm(64, generator=torch.Generator().manual_seed(0)), by_windows()]
)
def test_tokens_in_another_order_are_refused(order):
    found = model(Tokens(order))
    assert "embed" in names(found)
    assert not {"sorted", "mlp"} & set(names(found))
    with pytest.raises(LayerError, match=r"'sorted' cannot .* found in another part .* layouts="):
        found.check_layers(["sorted"])


def test_tokens_row_by_row_are_taken():
    found = model(Tokens())
    assert {"embed", "sorted", "mlp"} <= set(names(found))
    assert next(x for x in found.layers() if x.name == "mlp").layout == "tokens(8x8)"


def test_who_names_the_layout_is_believed():
    found = model(Tokens(by_windows()), layouts={"sorted": "tokens(8x8)"})
    assert "sorted" in names(found)
    assert "mlp" not in names(found)


@pytest.mark.parametrize("form", ["blocks", "windows"])
def test_windows_are_no_maps(form):
    found = model(Blocks(form))
    assert names(found) == ["embed", "act"]
    with pytest.raises(LayerError, match="'parted' cannot be explained"):
        found.check_layers(["parted"])


def test_where_attention_is_global_a_warning_says_so_once():
    found = model(Tokens(attention=True))
    with pytest.warns(UserWarning, match=r"'mlp' change everywhere alike.*take an earlier layer"):
        found.check_layers(["mlp"])
    found.check_layers(["mlp"])  # and a second warning would be an error
    assert torch.isfinite(found.activations(noise(2, SIZE), ["mlp"])["mlp"]).all()


@pytest.mark.parametrize(
    ("name", "refused", "taken"),
    [
        ("nest_tiny", "levels.1.transformer_encoder.0", "levels.1"),
        ("hiera_tiny_224", "blocks.2", "patch_embed"),
        ("mobilevitv2_050", "stages.2.1.transformer.0", "stages.2"),
    ],
)
def test_transformers_with_windows(libraries, name, refused, taken):
    torch.manual_seed(0)
    net = libraries.timm.create_model(name, num_classes=5)
    found = vtcav.Classifier(net.eval(), None, vtcav.Preprocess(224, mean=0.5, std=0.25))
    assert taken in names(found)
    with pytest.raises(LayerError, match="cannot be explained"):
        found.check_layers([refused])
    assert refused not in [layer.name for layer in found.check_layers(None)]
