from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.bundles.shared_part import OPTIONS_MARK, update_bundle, with_shared_part
from monai_zsad.workflow.options.table import OPTIONS
from tests.bundles.runs import ALL_BUNDLES


@pytest.mark.parametrize("bundle", ALL_BUNDLES, ids=lambda folder: folder.name)
def test_every_bundle_has_the_shared_part_of_this_release(bundle: Path) -> None:
    text = (bundle / "configs" / "inference.yaml").read_text(encoding="utf-8")
    assert with_shared_part(text) == text, "run `python -m monai_zsad bundle update` on it"


def test_the_own_part_is_kept_and_its_options_are_left_out(tmp_path: Path) -> None:
    config = tmp_path / "configs" / "inference.yaml"
    config.parent.mkdir()
    own = f"refine: true  # mine\ncontext_mm: 2\nnetwork_def: none\n\n{OPTIONS_MARK}\nold: 1\n"
    config.write_text(own, encoding="utf-8")
    assert update_bundle(tmp_path)
    assert not update_bundle(tmp_path)
    text = config.read_text(encoding="utf-8")
    assert text.startswith("refine: true  # mine\ncontext_mm: 2\nnetwork_def: none\n")
    content = yaml.safe_load(text)
    assert "old" not in content
    assert text.count("\nrefine:") == 0
    assert content["inferer"]["context_mm"] == "@context_mm"
    assert content["settings"]["context_mm"] == "@context_mm"
    # An option that this bundle does not have is not referred to.
    lacking = {option.name for option in OPTIONS if not option.everywhere} - {"context_mm"}
    assert not [name for name in lacking if f"'@{name}'" in text]


def test_a_step_in_the_own_part_takes_the_place_of_the_shared_one() -> None:
    own = f"inferer: {{_target_: mine,\n  context_mm: 1}}\nscreening: mine\n\n{OPTIONS_MARK}\n"
    text = with_shared_part(own)
    content = yaml.safe_load(text)
    assert content["inferer"] == {"_target_": "mine", "context_mm": 1}
    assert content["screening"] == "mine"
    assert (text.count("\ninferer:"), text.count("\nscreening:")) == (0, 1)
    assert content["evaluator"]["inferer"] == "@inferer"


def test_a_file_without_the_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="start from a copy"):
        with_shared_part("network_def: none\n")
    with pytest.raises(ConfigurationError, match="not a bundle"):
        update_bundle(tmp_path)
