"""The formulas of the methods: pure functions on tensors, and a few small ``nn.Module`` classes.

They import torch, numpy and ``InputError``, and nothing else of this program.
"""
