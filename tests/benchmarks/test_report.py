"""The report is a Markdown table, which can be pasted into a document."""

from io import StringIO

from rich.console import Console

from tests.benchmarks.report import Report, Row


def printed(*rows: Row) -> list[str]:
    """Return the lines that a report of these rows prints on a narrow screen."""
    screen = StringIO()
    report = Report(Console(file=screen, width=80))
    for row in rows:
        report.add(row)
    report.print("Commit abc")
    return [line.strip() for line in screen.getvalue().splitlines() if line.strip()]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_row_is_a_line_of_a_markdown_table() -> None:
    systems = {"product": "1,000", "ceiling": "2,000", "node": "900", "baseline": "50"}
    row = Row(case="one", measure="requests/s", values=systems, ratio="r " * 60, target="> 1x Node", met=True)
    header, rule, line, conditions = printed(row)
    assert cells(header) == ["Case", "Measure", "Product", "Ceiling", "Node", "Baseline", "Ratio", "Target", "Met"]
    assert set(rule) == {"|", "-"}
    assert cells(line) == ["one", "requests/s", *systems.values(), ("r " * 60).strip(), "> 1x Node", "yes"]
    assert conditions == "Commit abc"


def test_a_system_that_was_not_measured_has_an_empty_cell() -> None:
    _, _, line, _ = printed(Row(measure="requests/s", values={"product": "1"}))
    assert cells(line) == ["", "requests/s", "1", "", "", "", "", "", ""]
