"""A table of texts in Markdown and in LaTeX."""

from collections.abc import Sequence

_LATEX = {"\\": r"\textbackslash{}", "–": "--"} | {character: f"\\{character}" for character in "_%&#${}"}


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right; without a line end after the last row.

    >>> print(markdown_table(["Method", "Last"], [["GIFT", "86.0"]]))
    | Method | Last |
    | --- | ---: |
    | GIFT | 86.0 |
    """
    lines = [heads, ("---", *["---:"] * (len(heads) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(heads: Sequence[str], sections: Sequence[Sequence[Sequence[str]]]) -> str:
    r"""The same for the package booktabs, with a rule between sections; cells are LaTeX already (see ``latex``).

    >>> print(latex_table(["Method", "Last"], [[["GIFT", r"\textbf{86.0}"]]]))
    \begin{tabular}{lr}
    \toprule
    Method & Last \\
    \midrule
    GIFT & \textbf{86.0} \\
    \bottomrule
    \end{tabular}
    """
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", rf"{' & '.join(heads)} \\"]
    for section in sections:
        lines += [r"\midrule", *(rf"{' & '.join(row)} \\" for row in section)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def latex(text: str) -> str:
    r"""A text as LaTeX writes it.

    >>> latex("wise_ft – 50%")
    'wise\\_ft -- 50\\%'
    """
    return "".join(_LATEX.get(character, character) for character in text)
