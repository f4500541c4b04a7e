"""Building blocks of methods: adapters, selector, and the bases of methods with replay and distillation."""
