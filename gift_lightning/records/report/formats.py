"""A table of texts in Markdown and in LaTeX, and texts of a CSV file."""

import re
from collections.abc import Sequence

_LATEX = {
    **{character: f"\\{character}" for character in "_%&#${}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "[": "{[}",
    "*": "{*}",  # at the beginning of a row, options of the row or rule before it
}


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """A Markdown table, the first ``names`` columns to the left, the others to the right; without a final line end.

    >>> print(markdown_table(["Method", "Last"], [["GIFT", "86.0"]]))
    | Method | Last |
    | --- | ---: |
    | GIFT | 86.0 |
    """
    lines = [heads, [*["---"] * names, *["---:"] * (len(heads) - names)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(heads: Sequence[str], sections: Sequence[Sequence[Sequence[str]]], names: int = 1) -> str:
    r"""A LaTeX table with the package booktabs and a rule between sections, the first ``names`` columns to the left.

    Cells are LaTeX already (see ``latex``).

    >>> print(latex_table(["Method", "Last"], [[["GIFT", r"\textbf{86.0}"]]]))
    \begin{tabular}{lr}
    \toprule
    Method & Last \\
    \midrule
    GIFT & \textbf{86.0} \\
    \bottomrule
    \end{tabular}
    """
    columns = "l" * names + "r" * (len(heads) - names)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{' & '.join(heads)} \\"]
    for section in sections:
        lines += [r"\midrule", *(rf"{' & '.join(row)} \\" for row in section)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def markdown(text: str) -> str:
    r"""A text with Markdown's special characters escaped, for a table or elsewhere.

    >>> print(markdown("birds [v2] | a_b _c_"))
    birds \[v2\] \| a_b \_c\_
    """
    # an underscore within a word marks nothing
    return re.sub(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def latex(text: str) -> str:
    r"""A text with LaTeX's special characters escaped.

    >>> latex("wise_ft – 50%")
    'wise\\_ft -- 50\\%'
    """
    # two dashes, quotes or commas would become another character
    matches = re.finditer(r"([-–](?=[-–])|'(?=')|,(?=,))|.", text)
    return "".join(_LATEX.get(match[0], match[0]) + ("{}" if match[1] else "") for match in matches)


def no_formula(text: str) -> str:
    """A text for a cell of a CSV file, with an apostrophe before what a spreadsheet would take for a formula.

    >>> no_formula("=cmd()"), no_formula("GIFT")
    ("'=cmd()", 'GIFT')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
