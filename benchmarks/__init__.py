"""Experiments that compare methods: what they cost and how they rank."""
