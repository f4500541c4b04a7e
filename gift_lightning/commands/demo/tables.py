"""The probabilities of models as HTML: one table for each run, a class in a row, a model in a column."""

from collections.abc import Mapping, Sequence
from html import escape

from torch import Tensor

from gift_lightning.runs.kept_models import KeptModels

FIRST = 5
"""Classes of a model that the tables show at least."""

STYLE = """
.answers {display: flex; flex-wrap: wrap; gap: 24px 32px; align-items: flex-start}
.answers figure {margin: 0; max-width: 100%; min-width: 0}
.answers figure > div {overflow-x: auto}
.answers figcaption {font-weight: 600; margin-bottom: 6px; overflow-wrap: anywhere}
.answers figcaption span {font-weight: 400; opacity: .7}
.answers table, .answers tr, .answers th, .answers td {border: 0}
.answers table {border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; margin: 0}
.answers th {font-weight: 500; padding: 2px 6px}
.answers thead th {vertical-align: bottom; padding: 2px; height: 8em}
.answers thead th span {writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap}
.answers tbody th {text-align: left; min-width: 5em; max-width: 16em; overflow-wrap: break-word; position: sticky;
  left: 0; background: var(--body-background-fill)}
.answers tbody td {min-width: 36px; padding: 4px 2px; text-align: center; border: 2px solid transparent;
  border-radius: 4px; background: rgb(29 78 216 / var(--p)); color: var(--body-text-color)}
.answers tbody td.none {color: rgb(from var(--body-text-color) r g b / .5)}
.answers tbody td.strong {color: white}
.answers tbody td.best {border-color: var(--body-text-color); font-weight: 700}
.answers p, .message {max-width: 44em; margin: 6px 0}
.answers figure p {max-width: 18em}
.answers .note {flex-basis: 100%; opacity: .8}
.message.fault {border-left: 4px solid #dc2626; padding-left: 12px}
@media (max-width: 640px) {
  .answers tbody td {min-width: 30px; font-size: 90%}
  .answers tbody th {padding: 2px 2px 2px 0}
}
"""
"""Rules of the page for these tables, light and dark."""


def message(sentence: str, is_fault: bool = False) -> str:
    """A sentence in the place of the answers.

    >>> message("a < b")
    '<p class="message">a &lt; b</p>'
    """
    return f'<p class="message{" fault" if is_fault else ""}"{" role=alert" if is_fault else ""}>{escape(sentence)}</p>'


def tables(
    runs: Mapping[str, KeptModels], said: Mapping[str, Tensor], class_names: Sequence[str], notes: Sequence[str]
) -> str:
    """The tables of all runs, with the same classes in their rows, and notes.

    Args:
        runs: by name.
        said: probabilities ``[models, C]`` of each run.
        class_names: C of them.
        notes: on the image.
    """
    rows = shown_classes([model for of_run in said.values() for model in of_run.tolist()])
    left = len(class_names) - len(rows)
    further = [f"Left out: {left} classes that no model has among its first {FIRST}."] if left else []
    tables = "".join(_table(run, models, said[run].tolist(), class_names, rows) for run, models in runs.items())
    explained = "Probabilities in percent; a frame marks the answer of each model."
    lines = "".join(f"<p>{escape(note)}</p>" for note in [explained, *further, *notes])
    return f'<div class="answers">{tables}<div class="note">{lines}</div></div>'


def shown_classes(probabilities: Sequence[Sequence[float]]) -> list[int]:
    """Numbers of the classes among the first five of any model, the largest probability first.

    Args:
        probabilities: of all classes, for each model.

    >>> shown_classes([[0.1, 0.9], [0.2, 0.8]])
    [1, 0]
    """
    best = [max(of_class) for of_class in zip(*probabilities, strict=True)]
    order = range(len(best))
    chosen = {index for of_model in probabilities for index in sorted(order, key=lambda i: -of_model[i])[:FIRST]}
    return sorted(chosen, key=lambda index: -best[index])


def _table(
    run: str, models: KeptModels, said: Sequence[Sequence[float]], class_names: Sequence[str], rows: Sequence[int]
) -> str:
    heads = [name if index == 0 else f"after {name}" for index, name in enumerate(models.names)]
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in heads)
    firsts = [max(range(len(model)), key=model.__getitem__) for model in said]
    body = "".join(
        f'<tr><th scope="row">{escape(class_names[row])}</th>'
        + "".join(_cell(model[row], row == first) for model, first in zip(said, firsts, strict=True))
        + "</tr>"
        for row in rows
    )
    title = f"{escape(run)} <span>{escape(models.method)}</span>"
    notes = "".join(f"<p>{escape(note)}</p>" for note in models.notes)
    table = f"<div><table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"<figure><figcaption>{title}</figcaption>{table}{notes}</figure>"


def _cell(probability: float, is_first: bool) -> str:
    number = f"{100 * probability:.0f}"
    has = {"best": is_first, "strong": probability > 0.75, "none": number == "0"}
    kinds = " ".join(kind for kind, holds in has.items() if holds)
    return f'<td class="{kinds}" style="--p: {probability:.3f}">{number}</td>'
