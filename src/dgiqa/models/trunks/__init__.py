"""Trunks that several architectures stand on: MobileNetV2, ResNet-50, ViT. A card here is weights that are shared."""
