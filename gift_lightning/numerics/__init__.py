"""The numbers of the methods: pure functions on tensors, and the few modules that are no more than their formula.

They know torch, numpy and ``InputError``, and nothing else of this program.
"""
