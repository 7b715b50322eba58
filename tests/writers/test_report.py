from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import MetaTensor
from monai.transforms import SpatialPad, SpatialResample

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import SEEDED_WARNING, UNFAMILIAR_WARNING, SavePreviewd, SaveReportd
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice
from monai_zsad.writers.figures.key_slices import key_slices
from monai_zsad.writers.figures.views import make_view, on_grid, upright
from monai_zsad.writers.pages.viewer import CONTENT_SECURITY_POLICY
from tests.writers.screened import SETTINGS, screened

SCRIPT = "<script>document.title = 'planted'</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def data():
    return screened(codes="LPS")


def written(data, folder, viewer=False, **options):
    assert SaveReportd("pred", folder, settings=SETTINGS, viewer=viewer, **options)(data) == data
    return (folder / data["case"] / "report.html").read_text(encoding="utf-8")


def test_unfamiliar_scan_is_said_before_its_score(data, tmp_path):
    told = {"unfamiliar": True, "unfamiliarity": 2.46}
    text = Page(written({**data, **told}, tmp_path)).text
    heading = f"{UNFAMILIAR_WARNING.capitalize()}."
    assert text.index(heading) < text.index("is 2.5 times the limit") < text.index("volume score")
    assert text.count(heading[1:-1]) == 1, "it is not one of the other warnings"
    assert "1 warning " in text
    familiar = written({**data, "unfamiliar": False, "unfamiliarity": 0.4}, tmp_path)
    assert familiar == written(data, tmp_path)
    assert heading not in familiar


def test_page_tells_everything_and_loads_nothing(data, tmp_path):
    calibrated = {**data, "pred_p_values": [0.02, 0.5], "volume_p_value": 0.04, "calibration": {"n": 49}}
    html = written(calibrated, tmp_path, meta={"method": "crane", "prompts": {"set": "medical"}})
    page = Page(html)
    found = data["pred_candidates"][0]
    ras = ", ".join(f"{value:.1f}" for value in found.centroid_ras_mm)
    lps = ", ".join(f"{value:.1f}" for value in found.centroid_lps_mm)
    for words in (
        *("For research only. Not for clinical use.", "head", "0.710", "volume score (top_k_mean)", "0.040"),
        *(f"{found.peak_score:.3f}", f"{found.mean_score:.3f}", f"{found.volume_mm3:.0f}", ras, lps, "0.020"),
        "axes run to LPS",
        *("64 \N{MULTIPLICATION SIGN} 64 \N{MULTIPLICATION SIGN} 20", "LPS", "percentiles 1 to 99 of the body"),
        *("min_volume_mm3 20", "prompts.set medical", "method crane", "monai_zsad", "Warnings uneven slices", "n 49"),
        *("Candidate 1: slice", "Candidate 2: slice", "Grey from", "Colours of the map from"),
    ):
        assert words in page.text, words
    assert SEEDED_WARNING not in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(image["alt"] for image in images)
    sources = [str(image["src"]) for image in images]
    pictures = [source for source in sources if source.startswith("data:image/png;base64,")]
    small = [source for source in sources if source.startswith("data:image/jpeg;base64,")]
    assert (len(pictures), len(small), len(sources)) == (2, 6, 8)
    for source, least in (*((one, 200) for one in pictures), *((one, 100) for one in small)):
        content = io.BytesIO(base64.b64decode(source.split(",")[1]))
        assert imread(content, "png" if least == 200 else "jpeg").shape[0] > least
    assert not re.search(r"https?://|@import|url\(", html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object"})
    assert all(str(own["href"]).startswith("#") for tag, own in page.tags if tag == "a")
    assert [own for tag, own in page.tags if tag == "script"] == [{}], "one script, in the page"
    policy = next(own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert html == written(calibrated, tmp_path, meta={"method": "crane", "prompts": {"set": "medical"}})


def test_texts_are_escaped_and_random_weights_said(data, tmp_path):
    odd = {**data, "case": "<b>&\"'", "warnings": [SCRIPT], "intensity": SCRIPT, "modality": SCRIPT}
    page = Page(written(odd, tmp_path, meta={SCRIPT: SCRIPT, "seeded": True}, pictures=1))
    assert [tag for tag, _ in page.tags].count("script") == 1, "only the page's own"
    assert "b" not in {tag for tag, own in page.tags if "class" in own}
    assert page.text.count(SCRIPT) >= 5
    assert f"NOT A RESULT: {SEEDED_WARNING}" in page.text
    assert ("p", {"class": "notice alarm", "role": "alert"}) in page.tags


def test_without_candidates_the_most_suspicious_slices_are_shown(data, tmp_path):
    nothing = {**data, "pred_candidates": [], "pred_labels": torch.zeros_like(data["pred_labels"])}
    page = Page(written(nothing, tmp_path))
    assert "None above the threshold" in page.text
    assert page.text.count("No candidate: slice") == 3


@pytest.mark.parametrize("codes", ["RAS", "PSR"])
def test_key_slices_go_through_the_peaks(codes):
    data = screened(codes=codes)
    candidates = [found.as_dict() for found in data["pred_candidates"]]
    view = make_view(data["image"], data["pred"], None, None, data["pred_labels"])
    slices = key_slices(view, candidates, 6, None)
    assert slices.candidates == ((1,), (2,))
    index = view.index_of(candidates[0]["peak_ras_mm"])
    assert np.take(view.heat, index, view.axis).max() == view.heat.max()
    assert view.labels is not None
    assert 1 in np.take(view.labels, index, view.axis)
    assert key_slices(view, candidates, 1, (0.0, 1.0)).limits == (0.0, 1.0)
    assert len(key_slices(view, candidates, 1, None).pictures) == 1


def coloured(png, colour):
    """How many pixels have nearly this colour."""
    picture = imread(io.BytesIO(png))[..., :3]
    return int((np.abs(picture - np.asarray(colour)).max(axis=-1) < 0.12).sum())


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_outlines_lie_around_the_labels(data, plane):
    view = make_view(data["image"], data["pred"], None, plane, data["pred_labels"])
    index = view.index_of(data["pred_candidates"][0].peak_ras_mm)
    axes = Figure().add_subplot()
    draw_slice(axes, view, index, (0.0, 1.0))
    limits = axes.get_xlim(), axes.get_ylim()
    draw_contours(axes, view, index, {1: "red"})
    assert (axes.get_xlim(), axes.get_ylim()) == limits
    assert view.labels is not None
    places = np.argwhere(upright(view.labels, view.axis, index) == 1)[:, ::-1]
    outline: Any = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(outline.min(axis=0), places.min(axis=0) - 0.5)
    np.testing.assert_allclose(outline.max(axis=0), places.max(axis=0) + 0.5)


def test_outlines_have_the_colours_of_suspicion(data):
    candidates = [found.as_dict() for found in data["pred_candidates"]]
    view = make_view(data["image"], data["pred"], None, None, data["pred_labels"])
    first, second = (png for _, png in key_slices(view, candidates, 2, None).pictures)
    assert coloured(first, (1.0, 0.23, 0.19)) > 40
    assert coloured(second, (1.0, 0.84, 0.04)) > 40


def test_scan_on_the_networks_grid_is_shown_in_place(data):
    image = data["image"]
    finer = torch.diag(torch.tensor([1.7, 1.7, 9.0, 1.0], dtype=torch.float64))
    finer[:3, 3] = torch.tensor([-114.0, -114.0, -85.5])
    moved = SpatialPad((200, 200, 24))(SpatialResample()(image, dst_affine=finer))
    assert moved.shape != image.shape
    back = on_grid(moved, data["pred"])
    assert back.shape == image.shape
    inner = (0, slice(8, -8), slice(8, -8), slice(2, -2))
    assert np.corrcoef(np.asarray(back[inner]).ravel(), np.asarray(image[inner]).ravel())[0, 1] > 0.98
    assert on_grid(image, data["pred"]) is image


def test_preview_shows_outlines_where_asked(data, tmp_path):
    outlined = {}
    for key in (None, "pred_labels"):
        SavePreviewd("pred", output_dir=tmp_path, labels_key=key, slices=1)(data)
        picture = (tmp_path / "head" / "preview.png").read_bytes()
        outlined[key] = coloured(picture, (1.0, 1.0, 1.0))
    assert outlined["pred_labels"] > outlined[None] + 100


def test_what_is_wrong_is_said(data, tmp_path):
    with pytest.raises(ConfigurationError, match="plane is 'oblique'"):
        SaveReportd(plane="oblique")
    with pytest.raises(ConfigurationError, match="pictures=0"):
        SaveReportd(pictures=0)
    with pytest.raises(OutputError, match="no 'image' in the data"):
        SaveReportd("pred", tmp_path)({**data, "image": None})
    other = MetaTensor(torch.zeros(1, 3, 3, 3))
    with pytest.raises(ConfigurationError, match="labels"):
        SaveReportd("pred", tmp_path)({**data, "pred_labels": other})
    assert not list(tmp_path.rglob("*.html"))


@pytest.fixture
def many(data):
    """Seven candidates; there are labels of two."""
    found = [dataclasses.replace(data["pred_candidates"][i % 2], id=i + 1, peak_score=0.9 - i / 10) for i in range(7)]
    return {**data, "pred_candidates": found, "warnings": [SCRIPT]}


def test_five_candidates_are_open_and_the_others_folded(many, tmp_path):
    html = written(many, tmp_path)
    opened, folded = html.split('<details class="more">')
    folded = folded.split("</details>")[0]
    assert [f"Candidate {number}</" in opened for number in range(1, 8)] == [True] * 5 + [False] * 2
    assert [f"Candidate {number}</" in folded for number in range(1, 8)] == [False] * 5 + [True] * 2
    assert folded.count("data:image/jpeg") == 2, "one small image each"


def test_size_is_along_the_axes_of_the_patient(tmp_path):
    sizes = {}
    for codes in ("RAS", "PSR"):
        data = screened(codes=codes)
        texts = re.findall(r"<dt>size, mm</dt><dd>(.*?)</dd>", written(data, tmp_path / codes))
        sizes[codes] = texts
        box = data["pred_candidates"][0].bounding_box
        spacing = {"R": 232 / 64, "A": 232 / 64, "S": 9.0}
        extents = dict(zip(("R", "A", "S") if codes == "RAS" else ("A", "S", "R"), box, strict=True))
        wanted = [(extents[axis][1] - extents[axis][0]) * spacing[axis] for axis in "RAS"]
        shown = [float(number) for number in texts[0].split(" \N{MULTIPLICATION SIGN} ")]
        np.testing.assert_allclose(shown, wanted, atol=0.51)
    assert sizes["RAS"] == sizes["PSR"]


def test_what_is_said_about_bundle_and_run(data, tmp_path):
    run = {"bundle": "tiny_screening", "measured": f"Measured on two patients. {SCRIPT}", "anatomy": "brain"}
    page = Page(written({**data, "modality": ""}, tmp_path, run=run))
    assert run["measured"] in page.text
    assert "bundle tiny_screening" in page.text
    assert "anatomy brain" in page.text


def test_with_a_viewer_candidates_lead_to_it(many, tmp_path, monkeypatch):
    asked = []

    def section(image, heat, labels, candidates, modality, limits):
        asked.append((image is many["image"], labels is many["pred_labels"], len(candidates), modality, len(limits)))
        return Markup("<p id=planted-viewer></p>") if len(asked) == 1 else Markup("")

    monkeypatch.setattr("monai_zsad.writers.pages.viewer.viewer_section", section)
    html = written(many, tmp_path, viewer=True)
    page = Page(html)
    assert ("p", {"id": "planted-viewer"}) in page.tags
    points = {tuple(map(float, str(own["data-ras"]).split(","))) for _, own in page.tags if "data-ras" in own}
    peaks = sorted({found.peak_ras_mm for found in many["pred_candidates"]})
    np.testing.assert_allclose(sorted(points), peaks, rtol=1e-4)
    assert html.index("planted-viewer") < html.index('id="candidates"')
    assert CONTENT_SECURITY_POLICY in [own.get("content") for _, own in page.tags]
    # A single slice has no viewer; then nothing is missing.
    monkeypatch.setattr("monai_zsad.writers.pages.case_page.viewer_installed", lambda: True)
    assert "pip install ipyniivue" not in written(many, tmp_path, viewer=True)
    # Without the program of the viewer.
    monkeypatch.setattr("monai_zsad.writers.pages.case_page.viewer_installed", lambda: False)
    without = Page(written(many, tmp_path, viewer=True))
    assert "pip install ipyniivue" in without.text
    assert not [own for _, own in without.tags if "data-ras" in own]
    assert asked == [(True, True, 7, "MR", 2)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(many, tmp_path, open_page, scheme):
    written(many, tmp_path, meta={"seeded": True})
    file = tmp_path / "head" / "report.html"
    for width in (390, 1280, 1920):
        opened = open_page(file, width=width, scheme=scheme)
        page = opened.page
        assert page.title() == "head: anomaly screening report"
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page does not scroll sideways"
        assert (opened.errors, opened.requests) == ([], [])
        widths = page.evaluate("[...document.images].map(image => image.getBoundingClientRect().width)")
        assert min(widths) > 60
        shown = imread(io.BytesIO(page.screenshot()))[..., :3]
        # Red notice, and the page in its scheme.
        assert ((shown[..., 0] > 0.6) & (shown[..., 1] < 0.25)).sum() > 5_000
        assert (shown[-1, 2].mean() > 0.8) == (scheme == "light")


@pytest.mark.slow
def test_positions_are_switched_and_remembered(many, tmp_path, open_page):
    written(many, tmp_path)
    page = open_page(tmp_path / "head" / "report.html").page
    found = many["pred_candidates"][0]
    ras, lps = (", ".join(f"{x:.1f}" for x in point) for point in (found.peak_ras_mm, found.peak_lps_mm))
    first = page.locator(".candidate").first
    assert ras in first.inner_text()
    assert lps not in first.inner_text()
    page.get_by_role("radio", name="LPS").press("Space")
    for _ in range(2):
        assert lps in first.inner_text()
        assert ras not in first.inner_text()
        page.reload()
    assert not page.get_by_text("Candidate 6").is_visible()
    page.get_by_text("2 more").press("Enter")
    assert page.get_by_text("Candidate 6").is_visible()


@pytest.mark.slow
def test_a_candidate_moves_the_crosshair(data, tmp_path, open_page):
    pytest.importorskip("ipyniivue", reason="ipyniivue is not installed")
    written(data, tmp_path, viewer=True)
    opened = open_page(tmp_path / "head" / "report.html")
    page = opened.page
    page.wait_for_selector("#viewer[data-ready]", timeout=120_000)
    page.evaluate("document.addEventListener('zsad:crosshair', event => { window.ras = event.detail.ras; })")
    for number, found in enumerate(data["pred_candidates"], 1):
        page.get_by_role("button", name=f"Candidate {number}", exact=True).press("Enter")
        page.wait_for_timeout(500)
        np.testing.assert_allclose(page.evaluate("window.ras"), found.peak_ras_mm, atol=9.0)
    readout = page.locator('[name="position"]')
    ras = readout.inner_text().split("RAS ")[1].split(")")[0].split(", ")
    page.get_by_role("radio", name="LPS").press("Space")
    lps = readout.inner_text().split("LPS ")[1].split(")")[0].split(", ")
    np.testing.assert_allclose([float(x) for x in lps], [-float(ras[0]), -float(ras[1]), float(ras[2])])
    assert (opened.errors, opened.requests) == ([], [])
