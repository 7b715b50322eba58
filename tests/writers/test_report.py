from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import MetaTensor
from monai.transforms import SpatialPad, SpatialResample

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import SEEDED_WARNING, SavePreviewd, SaveReportd
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice
from monai_zsad.writers.figures.key_slices import key_slices
from monai_zsad.writers.figures.views import make_view, on_grid, upright
from tests.writers.browser import opened, pictured
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


def written(data, folder, **options):
    assert SaveReportd("pred", folder, settings=SETTINGS, **options)(data) == data
    return (folder / data["case"] / f"{data['case']}_report.html").read_text(encoding="utf-8")


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
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2
    for source in pictures:
        assert source is not None
        assert source.startswith("data:image/png;base64,")
        assert imread(io.BytesIO(base64.b64decode(source.split(",")[1]))).shape[0] > 200
    assert not re.search(r"https?://|@import|url\(", html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "a"})
    policy = next(own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert html == written(calibrated, tmp_path, meta={"method": "crane", "prompts": {"set": "medical"}})


def test_texts_are_escaped_and_random_weights_said(data, tmp_path):
    odd = {**data, "case": "<b>&\"'", "warnings": [SCRIPT], "intensity": SCRIPT, "modality": SCRIPT}
    page = Page(written(odd, tmp_path, meta={SCRIPT: SCRIPT, "seeded": True}, pictures=1))
    assert "script" not in {tag for tag, _ in page.tags}
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
        picture = (tmp_path / "head" / "head_preview.png").read_bytes()
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


@pytest.mark.slow
def test_report_in_a_browser(data, tmp_path):
    written({**data, "warnings": [SCRIPT]}, tmp_path, meta={"seeded": True})
    page = tmp_path / "head" / "head_report.html"
    document, network = opened(page, tmp_path)
    assert network == []
    assert "<title>head: anomaly screening report</title>" in document
    shown = imread(pictured(page, tmp_path))[..., :3]
    # Light page, red notice, dark pictures.
    assert (shown > 0.9).all(axis=-1).mean() > 0.2
    assert ((shown[..., 0] > 0.6) & (shown[..., 1] < 0.25)).sum() > 10_000
    assert (shown < 0.15).all(axis=-1).mean() > 0.1
