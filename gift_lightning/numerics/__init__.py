"""The numbers of the methods as pure functions on tensors: they know torch and numpy, and nothing of this program."""
