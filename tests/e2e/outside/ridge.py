"""A method that learns without steps: ridge regression on features of the pre-trained CLIP, which never changes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Candidates
from datamodules.shard import TestShard
from gift_lightning.clip.model import TEST_LOGIT_SCALE, cosine
from gift_lightning.errors import InputError
from gift_lightning.methods import ContinualCLIP


class Ridge(ContinualCLIP):
    """Ridge regression of the labels of each task on the features of all tasks so far.

    logits = 100 * x' (sum_t X_t' X_t + ridge * I)^-1 X_task' Y_task
    """

    learning = "analytic"

    def __init__(self, ridge: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ridge = ridge
        self.load_knowledge({})

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.sequence.label_space != "task":
            raise InputError("Ridge regression has one classifier for each task: set `data.label_space` to task.")

    def on_task_end(self, task: int) -> None:
        features, labels = self.train_features(task)
        targets = F.one_hot(labels, len(self.sequence.tasks[task].class_names)).to(features)
        self.state["gram"] = self.state["gram"].to(features) + features.T @ features
        self.state[self.sequence.names[task]] = features.T @ targets

    def knowledge(self) -> dict[str, Tensor]:
        return self.state if len(self.state) > 1 else {}

    def load_knowledge(self, knowledge: dict[str, Tensor]) -> None:
        self.state = dict(knowledge) or {"gram": torch.zeros(())}

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        if task.name not in self.state or not len(shard):
            return super().evaluate(task, shard)
        features = self.encode_shard(shard)
        gram, moments = self.state["gram"].to(features), self.state[task.name].to(features)  # loaded, they are on a CPU
        weights = torch.linalg.solve(gram + self.ridge * torch.eye(len(gram)).to(gram), moments)
        return TEST_LOGIT_SCALE * cosine(features, weights.T)
