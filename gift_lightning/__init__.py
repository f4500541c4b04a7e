"""Continual learning of vision-language models: the methods of the field as PyTorch Lightning modules."""

__version__ = "0.1.0"
