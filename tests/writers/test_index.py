from __future__ import annotations

import csv
import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from monai_zsad.errors import OutputError
from monai_zsad.writers import SEEDED_WARNING, UNFAMILIAR_WARNING, save_preview, write_index
from monai_zsad.writers.figures.drawing import THUMBNAIL_KEY
from tests.writers.test_report import SCRIPT, Page


def place(folder, name, score, peaks=(), **changes):
    """Findings of a case as far as an index needs them, and a report."""
    (folder / name).mkdir()
    (folder / name / "report.html").write_text("report")
    content = {
        "case": name,
        "volume_score": score,
        "volume_p_value": None,
        "candidates": [{"peak_score": peak, "volume_mm3": 500.0} for peak in peaks],
        "scan": {"modality": "MR"},
        "warnings": [],
        "files": {"report": "report.html", "preview": "preview.png"},
        **changes,
    }
    (folder / name / "findings.json").write_text(json.dumps(content))


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
    return re.findall(r'<tr data-case="([^"]*)"', html)


def test_most_suspicious_first_and_failures_named(results):
    html = write_index(results).read_text(encoding="utf-8")
    page = Page(html)
    assert cases(html) == ["bert #1", "carl", "anna"]
    assert "dora failed scan.nii.gz is truncated" in page.text
    assert "For research only. Not for clinical use." in page.text
    assert "3 cases" in page.text
    assert "2 with lesion candidates" in page.text
    assert "1 failed" in page.text
    assert SEEDED_WARNING not in page.text


def test_unfamiliar_scans_are_marked(results):
    place(results, "emma", 0.7, warnings=[UNFAMILIAR_WARNING])
    page = Page(write_index(results).read_text(encoding="utf-8"))
    assert f"emma {UNFAMILIAR_WARNING}" in page.text
    assert "1 outside of the training data" in page.text
    assert page.text.count(UNFAMILIAR_WARNING) == 2, "beside the name, and among the warnings"


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
    assert {own["data-case"]: own["data-status"] for tag, own in page.tags if "data-case" in own} == {
        "anna": "repaired",
        "bert #1": "done",
        "carl": "done",
    }
    assert "repaired gaps-filled wrong-order" in page.text


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
    links = [own["href"] for tag, own in Page(html).tags if tag == "a" and not str(own["href"]).startswith("#")]
    # There is no preview.
    assert links == ["./bert%20%231/report.html", "./carl/report.html", "./anna/report.html"]
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
    (results / "eve" / "findings.json").write_text(damage)
    (results / "summary.json").write_text(damage)
    page = Page(write_index(results).read_text(encoding="utf-8"))
    assert "eve failed findings.json cannot be read" in page.text
    assert "3 cases" in page.text


def test_empty_folder_and_none(tmp_path):
    assert "No findings in this folder." in write_index(tmp_path).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    with pytest.raises(OutputError, match="no such folder"):
        write_index(tmp_path / "absent")


def preview(folder, case, **options):
    """A real preview: dark, with a map that is suspicious on the patient's left."""
    scan = np.zeros((40, 40, 3))
    scan[5:35, 5:35] = 1.0
    heat = np.zeros(scan.shape)
    heat[10, 20, 1] = 1.0
    save_preview(scan, heat, folder / case / "preview.png", affine=np.eye(4), limits=(0.0, 1.0), **options)


def test_the_thumbnail_is_the_most_suspicious_slice_of_the_preview(results):
    preview(results, "anna")
    write = write_index(results)
    (image,) = [own for tag, own in Page(write.read_text(encoding="utf-8")).tags if tag == "img"]
    assert image["src"] == "./anna/preview.png"
    assert image["loading"] == "lazy"
    with Image.open(results / "anna" / "preview.png") as opened:
        left, top, right, bottom = (round(float(end)) for end in opened.info[THUMBNAIL_KEY].split())
        body = np.asarray(opened.convert("RGB"))[top:bottom, left:right]
    # All of it is body, which was white, and the map's peak is in it; the lower row of the figure has the map.
    assert (body[4:-4, 4:-4].max(axis=-1) > 200).mean() > 0.9
    assert (np.ptp(body.astype(int), axis=-1) > 60).any()
    assert top > 300
    (results / "anna" / "preview.png").write_bytes(b"no image")
    assert not [own for tag, own in Page(write_index(results).read_text(encoding="utf-8")).tags if tag == "img"]


def test_settings_of_the_run_stand_above_the_cases(tmp_path):
    common = {"settings": {"threshold": 0.5, "plane": "axial"}, "software": {"monai_zsad": "7.8.9"}}
    for case, anatomy in (("a", "brain"), ("b", "brain"), ("c", "chest")):
        run = {"bundle": "tiny_screening", "anatomy": anatomy, "modality": None}
        place(tmp_path, case, 0.5, run=run, **common)
    text = Page(write_index(tmp_path).read_text(encoding="utf-8")).text
    above = text[: text.index("All settings of the run")]
    for words in ("bundle tiny_screening", "anatomy brain (2), chest (1)", "threshold 0.5", "version 7.8.9"):
        assert words in above, words
    assert "modality" not in above
    assert "settings.plane axial" in text


def test_the_p_value_has_a_column_only_where_there_is_one(results):
    assert '<button type="button">p-value</button>' in write_index(results).read_text(encoding="utf-8")
    place(results, "zoe", 0.1)
    shutil.rmtree(results / "bert #1")
    assert "p-value" not in write_index(results).read_text(encoding="utf-8")


def shown(page):
    """Cases in the order of the page, without those that are filtered out."""
    rows = page.locator("table.filtered tbody tr:visible td.case")
    return [text.split("\n")[0] for text in rows.all_inner_texts()]


@pytest.fixture
def worklist(results):
    preview(results, "anna")
    preview(results, "carl", title="a longer title")
    name = "a-very-long-name-of-a-case-" * 6
    place(results, name, 0.2, (0.3,), scan={"modality": "CT"}, warnings=["gaps were filled"])
    return results, name


@pytest.mark.slow
def test_sorting_in_a_browser(results, open_page):
    opened = open_page(write_index(results))
    page = opened.page
    anna, bert, carl = "anna", "bert #1", "carl"
    assert shown(page) == [bert, carl, anna, "dora"]
    for column, wanted in (
        ("case", [anna, bert, carl]),
        ("case", [carl, bert, anna]),
        ("highest peak", [anna, bert, carl]),
        ("volume score", [bert, carl, anna]),
        ("volume score", [anna, carl, bert]),
        ("p-value", [bert, anna, carl]),
    ):
        page.get_by_role("button", name=column).press("Enter")
        assert shown(page)[:3] == wanted, column
    assert page.get_by_role("columnheader", name="p-value").get_attribute("aria-sort") == "ascending"
    assert (opened.errors, opened.requests) == ([], [])


@pytest.mark.slow
def test_filter_and_search_in_a_browser(worklist, open_page):
    folder, long = worklist
    page = open_page(write_index(folder)).page
    everything = ["bert #1", "carl", "anna", long, "dora"]
    search, least = page.get_by_label("search"), page.get_by_label("score from")
    status, modality = page.get_by_label("status"), page.get_by_label("modality")
    assert shown(page) == everything
    search.fill("BERT")
    assert shown(page) == ["bert #1"]
    search.fill("gaps filled")
    assert shown(page) == [long], "words of a warning"
    search.fill("truncated")
    assert shown(page) == ["dora"], "words of a reason"
    page.get_by_role("button", name="clear").click()
    assert shown(page) == everything
    modality.select_option("CT")
    assert shown(page) == [long]
    modality.select_option("")
    status.select_option("failed")
    assert shown(page) == ["dora"]
    status.select_option("done")
    least.fill("0.5")
    assert shown(page) == ["bert #1", "carl"]
    assert page.get_by_text("2 of 5 shown").is_visible()
    page.get_by_role("link", name="carl", exact=True).click()
    page.go_back()
    assert shown(page) == (["bert #1", "carl"] if least.input_value() else everything), "as the fields say"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_link_is_clipped_and_thumbnails_are_shown(worklist, open_page, width):
    opened = open_page(write_index(worklist[0]), width=width, scheme="dark" if width == 1280 else "light")
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = page.locator("td.case a")
    assert links.count() == 6
    for link in links.all():
        box = link.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        # What lies at its ends is the link itself, and not what covers or clips it.
        assert link.evaluate(
            """link => {
                 link.scrollIntoView({block: "center"});
                 return [...link.getClientRects()].every(box => [box.left + 2, box.right - 2].every(
                   x => document.elementFromPoint(x, box.top + box.height / 2) === link));
               }"""
        )
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        page.wait_for_timeout(200)
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    assert page.locator("img").count() == 2
    tile = page.locator(".thumb").first
    pixels = np.asarray(Image.open(io.BytesIO(tile.screenshot())).convert("RGB"))
    assert (pixels[8:-8, 8:-8].max(axis=-1) > 150).mean() > 0.8, "the body fills the thumbnail"
    assert (opened.errors, opened.requests) == ([], [])


@pytest.mark.slow
def test_a_thousand_cases(tmp_path, open_page):
    for number in range(1000):
        place(tmp_path, f"case-{number:04}", number / 1000, (0.9, 0.5), warnings=["uneven slices"])
    start = time.perf_counter()
    file = write_index(tmp_path)
    assert time.perf_counter() - start < 30
    assert file.stat().st_size < 3_000_000
    page = open_page(file).page
    spent = page.evaluate(
        """() => {
             const start = performance.now();
             document.querySelector("input[type=search]").value = "case-00";
             document.querySelector("input[type=search]").dispatchEvent(new Event("input"));
             document.querySelectorAll("th button")[0].click();
             document.documentElement.getBoundingClientRect();
             return performance.now() - start;
           }"""
    )
    assert shown(page)[:2] == ["case-0000", "case-0001"]
    assert len(shown(page)) == 100
    assert spent < 10_000


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Ten thousand cases, the last of them with a warning, and 150 that were refused."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(10_000):
        place(folder, f"case-{number:04}", number / 10_000, (0.5,) * (number % 7), warnings=["uneven"] * (number == 0))
    lines = [f"input-{number:03},refused,damaged,no. {number} is damaged" for number in range(150)]
    (folder / "status.csv").write_text("\n".join(["case,status,codes,reason", *lines]) + "\n")
    return write_index(folder)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_ten_thousand_cases_in_pages(many, open_page, width):
    opened = open_page(many, width=width)
    page = opened.page
    cases, refused = page.locator("table.worklist td.case"), page.locator("#not-done td.case")
    pages = page.get_by_role("navigation", name="pages of cases", exact=True)
    number, back, on = pages.get_by_label("page"), *(pages.get_by_role("button", name=n) for n in ("previous", "next"))
    search = page.get_by_label("search")
    assert (cases.count(), refused.count()) == (100, 100)
    assert cases.first.inner_text() == "case-9999"
    assert [pages.get_by_text(text).is_visible() for text in ("of 100", "rows 1 to 100")] == [True, True]
    assert not page.get_by_text("Allow JavaScript").count()
    assert page.get_by_text("10150 of 10150 shown").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # By keys alone; the focus stays on the buttons, and goes to the number at the end.
    on.press("Enter")
    assert cases.first.inner_text() == "case-9899"
    page.keyboard.press("Enter")
    assert (number.input_value(), cases.first.inner_text()) == ("3", "case-9799")
    number.fill("99")
    number.press("Enter")
    on.press("Enter")
    assert [cases.first.inner_text(), cases.last.inner_text()] == ["case-0099", "case-0000"]
    assert on.is_disabled()
    assert number.evaluate("field => field === document.activeElement")
    # What is on the last page is found, also by words that are folded.
    search.fill("UNEVEN")
    assert shown(page) == ["case-0000"]
    assert not pages.is_visible()
    search.fill("no. 149")
    assert shown(page) == ["input-149"]
    search.fill("")
    assert number.input_value() == "1"
    assert back.is_disabled()
    for column, first in (("case", "case-0000"), ("candidates", "case-0006"), ("warnings", "case-0000")):
        page.get_by_role("button", name=column).press("Enter")
        assert (cases.count(), cases.first.inner_text().split("\n")[0]) == (100, first), column
    page.get_by_role("navigation", name="not done").get_by_role("button", name="next").click()
    assert (refused.count(), refused.last.inner_text(), number.input_value()) == (50, "input-149", "1")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert (cases.count(), refused.count()) == (10_000, 150), "paper has all"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (cases.count(), refused.count()) == (100, 50)
    assert (opened.errors, opened.requests) == ([], [])


@pytest.mark.slow
def test_back_from_a_report_to_the_same_page(many, open_page):
    page = open_page(many).page
    cases, number = page.locator("table.worklist td.case"), page.get_by_role("spinbutton", name="page").first
    number.fill("42")
    number.press("Enter")
    assert cases.first.inner_text() == "case-5899"
    page.get_by_role("link", name="case-5899").click()
    page.go_back()
    assert cases.first.inner_text() == "case-5899"


@pytest.mark.slow
def test_many_cases_without_javascript(many, open_page):
    page = open_page(many, java_script_enabled=False).page
    assert page.locator("table.worklist td.case").count() == 100
    assert page.get_by_text("These are the first 100 of 10000 rows.").is_visible()
    assert not page.get_by_role("button", name="next").first.is_visible()


@pytest.mark.slow
def test_a_page_that_asks_for_something_would_be_seen(tmp_path, open_page):
    page = tmp_path / "page.html"
    page.write_text('<html><body><img src="http://127.0.0.1:9/planted.png"></body></html>')
    assert open_page(page).requests == ["http://127.0.0.1:9/planted.png"]
