"""The viewer as HTML, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys

import pytest

from monai_zsad.writers.pages.viewer import (
    CONTENT_SECURITY_POLICY,
    niivue,
    viewer_installed,
    viewer_page,
    viewer_section,
)
from tests.writers.viewer.phantoms import head


@pytest.fixture
def other_module(tmp_path, monkeypatch):
    """A function that puts another ``ipyniivue`` in place of the installed one."""

    def place(source: str | None) -> None:
        folder = tmp_path / "ipyniivue" / "static"
        folder.mkdir(parents=True)
        if source is not None:
            (folder / "widget.js").write_text(source, encoding="utf-8")
        monkeypatch.setattr(niivue, "_folder", lambda: folder.parent)
        niivue.installed_niivue.cache_clear()

    yield place
    niivue.installed_niivue.cache_clear()


def test_the_class_is_found_under_another_name(other_module):
    other_module(
        "var q;class $b{}q=new $b({});q.attachToCanvas(c);function f(){this.attachToCanvas(d)}export{q as default};"
    )
    found = niivue.installed_niivue()
    assert found is not None
    assert gzip.decompress(base64.b64decode(found.module)).endswith(b"export { $b as Niivue };\n")


@pytest.mark.parametrize(
    "source",
    [
        None,
        "",
        "export{x as default}",
        "x.attachToCanvas(c)",
        "a=new B(1);a.attachToCanvas(c);d=new E(1);d.attachToCanvas(c)",
    ],
)
def test_an_unknown_module_gives_no_viewer(other_module, source):
    other_module(source)
    assert niivue.installed_niivue() is None
    assert viewer_section(*head()[:4]) == ""
    assert "ipyniivue" in viewer_page(*head()[:4])


def test_without_the_package_there_is_no_viewer(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    niivue.installed_niivue.cache_clear()
    try:
        assert not viewer_installed()
        assert viewer_section(*head()[:4]) == ""
    finally:
        niivue.installed_niivue.cache_clear()


def test_one_slice_and_a_picture_in_colour_have_no_viewer():
    found = head()
    one = [volume[..., 20:21] for volume in found[:3]]
    assert viewer_section(*one) == ""
    assert "<canvas" not in viewer_page(*one)
    colour = found.image.repeat(3, 1, 1, 1)
    colour.meta["colour"] = "RGB"
    assert viewer_section(colour, found.anomaly_map, found.labels) == ""


def test_the_page_loads_nothing_and_says_what_it_contains():
    found = head()
    page = viewer_page(*found[:4], title="a <b> & c")
    assert f'content="{CONTENT_SECURITY_POLICY}"'.replace("'", "&#39;") in page
    assert "http" not in CONTENT_SECURITY_POLICY
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "NiiVue" in page
    assert "Redistribution and use" in page
    assert "a &lt;b&gt; &amp; c" in page


def test_settings_are_those_of_the_findings():
    found = head(tissue=40.0, air=-1000.0)
    page = viewer_section(*found[:4], modality="CT", limits=(0.25, 0.75))
    settings = json.loads(page.split('data-viewer="settings">')[1].split("</script>")[0])
    assert settings["limits"] == [0.25, 0.75]
    assert settings["points"] == [found.centre]
    assert settings["presets"]["brain"] == [0.0, 80.0]
    assert len(settings["levels"]) == 256
    assert "brain</option>" in page
    assert "<select" not in viewer_section(*head()[:4], modality="FLAIR")


def test_the_package_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipyniivue", raising=False)
    niivue.installed_niivue.cache_clear()
    assert viewer_installed()
    assert "ipyniivue" not in sys.modules
