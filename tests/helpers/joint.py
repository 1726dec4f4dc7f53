"""Image-text models with a known joint space, and tiny ones of transformers, made from seeds."""

import torch
from PIL import Image

import vtcav
from tests.helpers.torchvision_ops import define_missing_operators

WORDS = ["a", "photo", "of", "the", "cat", "dog", "bright", "dark", "an", "image", "picture"]
WORDS += ["something", "texture", "object", "scene"]
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def linear_joint(model, layer, A, texts, noise=0.0):
    """Pictures at GAP(F) A of a layer, plus noise, and texts where they are put."""
    generator = torch.Generator().manual_seed(0)

    def images(x):
        G = model.activations(x, [layer])[layer].mean((2, 3)).double()
        E = G @ A
        return E + noise * torch.randn(E.shape, generator=generator, dtype=E.dtype)

    def embedded(wanted):
        return torch.stack([texts.get(text, torch.zeros(A.shape[1]).double()) for text in wanted])

    return vtcav.JointModel(images, embedded, model.preprocess, "a linear relation")


def unrelated_joint(model, D=8):
    """Pictures at random places."""
    generator = torch.Generator().manual_seed(0)
    return vtcav.JointModel(
        lambda x: torch.randn(len(x), D, generator=generator),
        lambda texts: torch.stack([torch.eye(D)[len(text) % D] for text in texts]),
        model.preprocess,
        "chance",
    )


def tokenizer():
    """A tokenizer that knows `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {word: i for i, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *WORDS])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **marks)


def save_tiny(folder, kind="CLIP", processor=True):
    """Save a CLIP or SigLIP of two layers with random weights, and return it."""
    define_missing_operators()
    import transformers

    text = {"vocab_size": 4 + len(WORDS), "max_position_embeddings": 12, **TOWER}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {"image_size": 32, "patch_size": 8, **TOWER}
    extra = {"projection_dim": 8} if kind == "CLIP" else {}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision, **extra)
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    if processor:
        made = transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
        made.save_pretrained(folder)
    return network


def pictures_of(array):
    return [Image.fromarray(each) for each in array]
