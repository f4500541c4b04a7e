"""Experiments that compare methods: their costs and their ranking."""
