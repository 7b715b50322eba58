from __future__ import annotations

import csv
import json
import re

import pytest

from monai_zsad.errors import OutputError
from monai_zsad.writers import SEEDED_WARNING, write_index
from monai_zsad.writers.pages.values import NOTHING
from tests.writers.browser import opened
from tests.writers.test_report import SCRIPT, Page


def place(folder, name, score, peaks=(), **changes):
    """Findings of a case as far as an index needs them, and a report."""
    (folder / name).mkdir()
    (folder / name / f"{name}_report.html").write_text("report")
    content = {
        "case": name,
        "volume_score": score,
        "volume_p_value": None,
        "candidates": [{"peak_score": peak, "volume_mm3": 500.0} for peak in peaks],
        "scan": {"modality": "MR"},
        "warnings": [],
        "files": {"report": f"{name}_report.html", "preview": f"{name}_preview.png"},
        **changes,
    }
    (folder / name / f"{name}_findings.json").write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path):
    place(tmp_path, "anna", 0.3, (0.95, 0.4))
    place(tmp_path, "bert #1", 0.9, (0.6,), volume_p_value=0.02)
    place(tmp_path, "carl", 0.5)
    reason = f"scan.nii.gz is truncated {SCRIPT}"
    rows = [{"case": "dora", "status": "failed", "reason": reason}, {"case": "anna", "status": "done"}]
    (tmp_path / "summary.json").write_text(json.dumps({"cases": rows}))
    return tmp_path


def cases(html):
    return re.findall(r'<tr><td class="whole" data-value="([^"]*)"', html)


def test_most_suspicious_first_and_failures_named(results):
    html = write_index(results).read_text(encoding="utf-8")
    page = Page(html)
    assert cases(html) == ["bert #1", "carl", "anna"]
    assert f"dora failed {NOTHING} scan.nii.gz is truncated" in page.text
    assert "For research only. Not for clinical use." in page.text
    assert "3 cases" in page.text
    assert "2 with lesion candidates" in page.text
    assert "1 failed" in page.text
    assert SEEDED_WARNING not in page.text


def test_what_became_of_each_case(results):
    lines = [
        "case,status,codes,reason,volume_score,seconds",
        "anna,repaired,gaps-filled wrong-order,,0.3,1.0",
        "bert #1,done,,,0.9,1.0",
        "dora,refused,empty-file,'=scan.nii.gz is empty,,0.1",
        "emil,failed,out-of-memory,too large,,9.0",
    ]
    (results / "status.csv").write_text("\n".join(lines) + "\n")
    html = write_index(results).read_text(encoding="utf-8")
    page = Page(html)
    assert "dora refused empty-file =scan.nii.gz is empty" in page.text
    assert "emil failed out-of-memory too large" in page.text
    assert "1 refused" in page.text
    assert "1 failed" in page.text
    assert '<td data-value="repaired" title="gaps-filled wrong-order">repaired</td>' in html
    assert html.count('<td data-value="done">done</td>') == 2


@pytest.mark.parametrize("source", ["status.csv", "summary.json"])
def test_inputs_that_are_no_cases_have_a_part_of_their_own(results, source):
    rows = [
        ("input~1f-2-anna_seg.nii", "left-out", "mask", f"anna_seg.nii: is a mask {SCRIPT}"),
        ("input~1f-3-b.mif", "refused", "unread-format", "b.mif: is not read; convert it to NIfTI"),
    ]
    if source == "status.csv":
        with (results / source).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("case", "status", "codes", "reason"), *rows])
    else:
        states = {"left-out": "left-out", "refused": "failed"}
        cases_of = [
            {"case": case, "status": states[status], "codes": [code], "reason": reason}
            for case, status, code, reason in rows
        ]
        (results / source).write_text(json.dumps({"cases": cases_of}))
    page = Page(write_index(results).read_text(encoding="utf-8"))
    refused = page.text.index("b.mif: is not read; convert it to NIfTI")
    on_purpose = page.text.index("Left out on purpose")
    assert page.text.index("Not done") < refused < on_purpose < page.text.index("anna_seg.nii: is a mask")
    assert "mask anna_seg.nii: is a mask" in page.text
    assert "unread-format b.mif" in page.text
    assert "1 left out" in page.text
    assert "1 case" not in page.text, "inputs are no cases"
    place(results, "ben", 0.1)
    (results / source).unlink()
    assert "left out" not in Page(write_index(results).read_text(encoding="utf-8")).text.lower()


def test_links_are_relative_and_lead_to_files(results):
    html = write_index(results).read_text(encoding="utf-8")
    links = [own["href"] for tag, own in Page(html).tags if tag == "a"]
    # There is no preview.
    assert links == ["./bert%20%231/bert%20%231_report.html", "./carl/carl_report.html", "./anna/anna_report.html"]
    assert not re.search(r"https?://|@import|url\(", html)
    assert not [own for tag, own in Page(html).tags if tag not in ("a", "link") and own.keys() & {"src", "href"}]


def test_texts_are_escaped_and_names_of_files_not_trusted(tmp_path):
    files = {"report": "../../etc/passwd", "preview": 'x" onclick="y'}
    place(tmp_path, "a", 0.5, case=SCRIPT, scan={"modality": SCRIPT}, warnings=[SCRIPT, SEEDED_WARNING], files=files)
    html = write_index(tmp_path, title=SCRIPT).read_text(encoding="utf-8")
    page = Page(html)
    assert html.count("<script>") == 1
    assert page.text.count(SCRIPT) >= 3
    assert f"NOT A RESULT (1 of 1 cases): {SEEDED_WARNING}" in page.text
    assert "a" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"case": "eve", "volume_score": "high"}'])
def test_findings_that_cannot_be_read_are_listed(results, damage):
    (results / "eve").mkdir()
    (results / "eve" / "eve_findings.json").write_text(damage)
    (results / "summary.json").write_text(damage)
    page = Page(write_index(results).read_text(encoding="utf-8"))
    assert f"eve failed {NOTHING} eve_findings.json cannot be read" in page.text
    assert "3 cases" in page.text


def test_empty_folder_and_none(tmp_path):
    assert "No findings in this folder." in write_index(tmp_path).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    with pytest.raises(OutputError, match="no such folder"):
        write_index(tmp_path / "absent")


@pytest.mark.slow
def test_index_in_a_browser(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    page = write_index(results)
    html = page.read_text(encoding="utf-8")
    document, network = opened(page, folder)
    assert network == []
    assert cases(document) == ["bert #1", "carl", "anna"]
    # Clicks, each after the ones before: name, name again, highest peak (none comes last), score, score again, p-value.
    press = """
      const seen = [0, 0, 5, 2, 2, 3].map(column => {
        document.querySelectorAll("th button")[column].click();
        return [...document.querySelectorAll("table.sortable tbody tr")].map(row => row.cells[0].textContent);
      });
      document.title = JSON.stringify(seen);
    """
    pressed = results / "pressed.html"
    pressed.write_text(html.replace("</body>", f"<script>{press}</script></body>"), encoding="utf-8")
    title = re.search("<title>(.*)</title>", opened(pressed, folder)[0])
    assert title is not None
    anna, bert, carl = "anna", "bert #1", "carl"
    assert json.loads(title[1]) == [
        [anna, bert, carl],
        [carl, bert, anna],
        [anna, bert, carl],
        [bert, carl, anna],
        [anna, carl, bert],
        [bert, anna, carl],
    ]


@pytest.mark.slow
def test_a_page_that_asks_for_something_would_be_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<html><body><img src="http://127.0.0.1:9/planted.png"></body></html>')
    assert opened(page, tmp_path)[1] == ["http://127.0.0.1:9/planted.png"]
