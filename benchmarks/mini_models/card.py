"""Zero-shot accuracies of the small CLIP and the model card that reports them."""

from pathlib import Path

import torch
from safetensors import safe_open

from benchmarks.mini_models.recipe import DECAY, PEAK_RATE, WARM_UP, WEIGHTS
from datamodules.mini import Counting, Digits, Flags, LandUse, Shapes, Textures
from datamodules.mini.clip import FOLDER
from datamodules.mini.tasks import TASKS_VERSION, MiniTask
from datamodules.shard import TestShard
from gift_lightning.clip.model import CLIP, cosine
from gift_lightning.clip.source import CLIPSource
from gift_lightning.files import write_text

TASKS: tuple[type[MiniTask], ...] = (Counting, Digits, Flags, LandUse, Shapes, Textures)


@torch.no_grad()
def zero_shot(clip: CLIP, test_size: int = 800) -> dict[str, float]:
    """Zero-shot accuracy on each task, in percent, of the first ``test_size`` test images."""
    accuracies = {}
    for kind in TASKS:
        task = kind(train_size=1)
        task.setup()
        shard = TestShard(task.test_set, clip.test_geometry, clip.normalize, limit=test_size)
        features = torch.cat(
            [clip.encode_image(shard[slice(first, first + 256)]) for first in range(0, len(shard), 256)]
        )
        predicted = cosine(features, clip.classifier(task.class_prompts())).argmax(1)
        accuracies[task.name] = 100 * int((predicted == shard.labels).sum()) / len(shard)
    return accuracies


_CARD = """# Mini CLIP

The pre-trained model of MiniMTIL, an embedded benchmark for continual learning of vision-language models: an open_clip
model of {parameters:.2f} M parameters for 32 x 32 pictures, with its vocabulary ({vocabulary} tokens, 16 per
text). It knows a procedurally drawn world of shapes, objects, letters, digits, textures, counts, land uses and flags,
and nothing else. Its purpose is to be fine-tuned and to forget.

```python
import open_clip
from datamodules.mini.clip import FOLDER  # registers the vision tower with timm

model, train_transform, test_transform = open_clip.create_model_and_transforms(f"local-dir:{{FOLDER}}")
tokenize = open_clip.get_tokenizer(f"local-dir:{{FOLDER}}", bpe_path=str(FOLDER / "merges.txt.gz"))
```

| | |
|---|---|
| vision tower | residual network with group normalisation, 32-64-128 channels (`mini_resnet`) |
| text tower | causal transformer, width 128, 2 layers, 4 heads |
| command | `python -m benchmarks.mini_models.pretrain {flags}` |
| data | the general world, version {world}; {seen:,} captioned pictures, each seen once |
| optimiser | AdamW, rate {peak}, {warm_up} steps of warm-up, cosine to zero over the last {decay:.0%} of the steps |
| time | {seconds} s on {threads} CPU thread(s) |
| weights | fp16 safetensors |

Zero-shot accuracy in percent, all templates averaged (tasks version {tasks}):

{table}

Licence: MIT. The pictures are drawn by this package. The digits of the task `Digits`, which the model was not trained
on, come with scikit-learn (UCI Optical Recognition of Handwritten Digits).
"""


def write_card(folder: Path, test_size: int = 800) -> dict[str, float]:
    """Evaluate the weights in ``folder`` and write its ``README.md``; returns the zero-shot accuracies."""
    clip = CLIPSource(f"local-dir:{folder}").load()
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        facts = file.metadata()
    accuracies = zero_shot(clip, test_size)
    names = [*accuracies, "mean"]
    values = [*accuracies.values(), sum(accuracies.values()) / len(accuracies)]
    rows = [names, ["---"] * len(names), [f"{value:.1f}" for value in values]]
    text = _CARD.format(
        parameters=sum(p.numel() for p in clip.parameters()) / 1e6,
        vocabulary=len(clip.model.token_embedding.weight),
        flags="--steps {steps} --seed {seed} --batch-size {batch_size} --threads {threads}".format(**facts),
        world=facts["world"],
        seen=int(facts["steps"]) * int(facts["batch_size"]),
        peak=PEAK_RATE,
        warm_up=WARM_UP,
        decay=DECAY,
        seconds=facts["seconds"],
        threads=facts["threads"],
        tasks=TASKS_VERSION,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
    )
    write_text(folder / "README.md", text)
    return accuracies


if __name__ == "__main__":  # after a change of the tasks: the weights stay, the accuracies do not
    write_card(FOLDER)
