"""The pre-trained model, untouched."""

from gift_lightning.methods.base import ContinualCLIP


class ZeroShot(ContinualCLIP):
    """CLIP as it was pre-trained: no training, and each row of the accuracy matrix is the zero-shot row.

    The upper bound of Transfer for methods that only preserve, and the lower bound of Last for methods that learn.

    Reference: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
    """

    learning = "none"
