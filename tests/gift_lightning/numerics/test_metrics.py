"""The metrics against the numbers of the authors' code, the published tables, and cases worked out by hand."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from gift_lightning.numerics import metrics
from gift_lightning.numerics.metrics import avg, backward_transfer, forgetting, last, summary, transfer
from gift_lightning.records import published

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "data" / "metrics.json").read_text(encoding="utf-8"))
PUBLISHED = [(order, method) for order in published.ORDERS for method in published.TABLE_ROW]
SVG = "{http://www.w3.org/2000/svg}"
R = [[90.0, 60.0, 50.0], [80.0, 95.0, 40.0], [70.0, 85.0, 99.0]]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(
    ("function", "key"), [(avg, "Avg."), (last, "Last"), (transfer, "Transfer"), (backward_transfer, "Forget")]
)
def test_metric_equals_the_official_code(name, function, key):
    value = function(GOLDEN[name]["matrix"])
    assert value == pytest.approx(GOLDEN[name]["precise"][key], abs=1e-9)
    assert f"{value:.2f}" == GOLDEN[name]["official_formatted"][key]


@pytest.mark.parametrize(("order", "method"), PUBLISHED)
def test_published_matrix_gives_the_published_triplet(order, method):
    expected = published.tables()[f"MTIL Order {order}"][published.TABLE_ROW[method]]
    found = summary(published.matrix(order, method).R)
    assert {key: f"{found[key.lower()]:.1f}" for key in expected} == {key: f"{v:.1f}" for key, v in expected.items()}


def test_every_published_matrix_but_zscl_star_has_a_table_row():
    assert len(PUBLISHED) == 12
    for order in published.ORDERS:
        assert sorted(published.methods(order)) == sorted([*published.TABLE_ROW, "zscl_star"])
        matrix = published.matrix(order, "zscl_star")
        assert len(matrix.tasks) == 11 and np.shape(matrix.R) == (11, 11)


def test_transfer_by_rows_is_another_number():
    matrix = np.array(published.matrix("I", "finetune").R)
    by_rows = np.mean([matrix[i, i + 1 :].mean() for i in range(10)])
    assert (round(float(by_rows), 1), round(transfer(matrix), 1)) == (40.4, 44.6)


def test_published_names_the_known_when_asked_for_the_unknown():
    with pytest.raises(ValueError, match=r"'gift'.*finetune, icarl"):
        published.matrix("I", "gift")
    with pytest.raises(ValueError, match="no order 'III'"):
        published.matrix("III", "zscl")


@pytest.mark.parametrize("as_type", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).bfloat16()])
def test_lists_arrays_and_tensors_give_the_same_floats(as_type):
    found = summary(as_type(R))
    expected = {"transfer": 52.5, "avg": 669 / 9, "last": 254 / 3, "forgetting": 15.0, "backward_transfer": -15.0}
    assert found == pytest.approx(expected, abs=1e-12)
    assert tuple(found) == metrics.METRICS and all(type(value) is float for value in found.values())


def test_single_precision_input_is_summed_in_double_precision():
    rows = torch.rand(11, 11, generator=torch.Generator().manual_seed(0))
    assert avg(rows) == pytest.approx(float(rows.double().mean()), abs=1e-15)


def test_unfinished_matrix_says_what_is_known():
    found = summary(R[:2])
    # Transfer: column 1 knows row 0, column 2 knows rows 0 and 1
    expected = {"transfer": (60 + 45) / 2, "avg": 415 / 6, "last": 215 / 3, "forgetting": 10, "backward_transfer": -10}
    assert found == pytest.approx(expected)


def test_first_row_alone_has_no_past():
    assert summary(R[:1]) == {"transfer": 55, "avg": 200 / 3, "last": 200 / 3} | dict.fromkeys(metrics.METRICS[3:])


def test_one_task_has_no_transfer():
    assert summary([[80.0]]) == {"avg": 80, "last": 80} | dict.fromkeys(["transfer", *metrics.METRICS[3:]])


def test_no_row_yet_leaves_everything_undefined():
    assert summary([]) == dict.fromkeys(metrics.METRICS)
    assert all(math.isnan(function([])) for function in (transfer, avg, last, forgetting, backward_transfer))


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_class_incremental_matrix_has_no_transfer(unknown):
    found = summary([[90, unknown, unknown], [80, 70, unknown], [60, 65, 85]])
    expected = {"avg": (90 + 75 + 70) / 3, "last": 70, "forgetting": 17.5, "backward_transfer": -17.5}
    assert found == pytest.approx({"transfer": None, **expected})


def test_forgetting_starts_from_the_best_row_and_backward_transfer_from_the_diagonal():
    matrix = [[50, 60, 70], [65, 40, 70], [55, 45, 90]]
    assert forgetting(matrix) == ((65 - 55) + (60 - 45)) / 2
    assert backward_transfer(matrix) == ((55 - 50) + (45 - 40)) / 2


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ([[1, 2], [3]], "different lengths"),
        ([["a", "b"]], "not numbers"),
        ([1.0, 2.0], r"shape \[2\]"),
        (torch.zeros(2, 2, 2), r"shape \[2, 2, 2\]"),
        (np.zeros((3, 2)), "3 rows but only 2 columns"),
        ([[1.0, math.inf]], "infinite"),
    ],
)
def test_what_is_no_matrix_is_refused_with_the_cause(wrong, cause):
    for function in (transfer, avg, last, forgetting, backward_transfer, summary):
        with pytest.raises(ValueError, match=cause):
            function(wrong)


def test_figures_of_the_documentation():
    docs = Path(__file__).parents[3] / "docs"
    drawing = ElementTree.parse(docs / "matrix.svg").getroot()
    cells = [float(text.text) for text in drawing.iter(f"{SVG}text") if "cell" in text.get("class", "").split()]
    assert cells[3:] == [cell for row in R for cell in row]
    shown = "".join(drawing.itertext())
    assert all(f"{name.capitalize()} {summary(R)[name]:.1f}" in shown for name in ("transfer", "avg", "last"))
    rows = [line.strip("| ").split(" | ") for line in (docs / "metrics.md").read_text().splitlines() if line[:1] == "|"]
    assert {row[0].lower().replace(" ", "_"): row[-1] for row in rows[2:]} == {
        name: f"{value:.1f}" for name, value in summary(R).items()
    }
