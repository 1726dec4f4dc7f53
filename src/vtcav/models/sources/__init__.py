"""Networks by name: timm, torchvision, Hugging Face, checkpoints and the demo's."""
