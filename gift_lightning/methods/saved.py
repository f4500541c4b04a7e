"""Methods in checkpoints: what they save, which checkpoints they refuse, and how one is loaded."""

from typing import Any, TypeVar

import torch
from torch import Tensor

from callbacks.method import Method
from gift_lightning.clip.weights import mismatch
from gift_lightning.errors import InputError
from gift_lightning.settings import Configurable

_Saved = TypeVar("_Saved", bound="SavedMethod")


class SavedMethod(Method, Configurable):
    """A method that saves its state in checkpoints, and refuses those of other runs."""

    @classmethod
    def load_from_checkpoint(
        cls: type[_Saved],
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> _Saved:
        """The method as a checkpoint of a run has it, in evaluation mode; a checkpoint of this class or a subclass.

        Its arguments come from the config of the run, which the checkpoint holds. No code in it is ever run.

        Args:
            checkpoint_path: the ``checkpoints/last.ckpt`` of a run.
            map_location: a device to move the method to.
            hparams_file: ignored, the config is in the checkpoint.
            strict: ``False`` accepts tensors that are missing or not expected; it becomes the ``strict_loading`` of the
                method.
            weights_only: ignored, the checkpoint is always read so.
            kwargs: arguments of the constructor that take the place of those in the config.

        Raises:
            InputError: the file is missing, damaged, or no checkpoint of such a run.
        """
        import gift_lightning  # at its call: it imports what builds on the methods

        method = gift_lightning.load_checkpoint(cls, checkpoint_path, strict is not False, **kwargs)
        return method if map_location is None else method.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse, on every rank, to replace a checkpoint by weights that are not numbers."""
        weights = [weight.detach() for weight in self.parameters() if weight.requires_grad and weight.numel()]
        extremes = [value for weight in weights for value in weight.aminmax()]  # nan if a weight is
        if extremes and not torch.stack(extremes).isfinite().all():  # waits for the device once
            raise InputError(
                f"The weights are not finite at step {checkpoint['global_step']}: lower `model.lr`, or look for broken"
                " images; the checkpoint before it is kept."
            )
        checkpoint |= {"method": type(self).__name__, "knowledge": self.knowledge(), **self.clip.origin.metadata}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of a run of another method, or with another CLIP; the latter if loading is strict."""
        method = type(self).__name__
        if "knowledge" not in checkpoint:
            raise InputError("The checkpoint was not written by a run of this program: resume from that of a run.")
        if checkpoint.get("method", method) not in [kind.__name__ for kind in type(self).__mro__]:
            raise InputError(
                f"The checkpoint is of a run of {checkpoint['method']}, and this is {method}: resume with the config of"
                " that run."
            )
        misfit = mismatch(checkpoint["state_dict"], self.state_dict())
        if misfit and self.strict_loading:
            raise InputError(
                f"The checkpoint is of another CLIP, or of {method} with other settings ({misfit}): resume with the"
                " config of that run."
            )
        self.load_knowledge(checkpoint["knowledge"])

    def load_knowledge(self, knowledge: dict[str, Tensor]) -> None:
        """Take over the tensors of ``knowledge``; without any, the model has learned nothing yet.

        Raises:
            InputError: it is not of this method, or of another model.
        """
        if knowledge:
            method = type(self).__name__
            raise InputError(
                f"The run has knowledge beside its weights, which {method} does not use: name the run's method."
            )
