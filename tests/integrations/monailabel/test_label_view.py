"""The copy of a bundle that MONAI Label's own app serves; the app itself runs it in integration/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.integrations.monailabel.label_view import levels_of_prediction, write_label_view
from monai_zsad.transforms import LesionCandidates
from monai_zsad.writers import CaseWriter
from tests.bundles.runs import BUNDLES, ROOT

TINY = ROOT / "tiny_screening"


def test_the_copy_writes_no_files_and_ends_with_levels(tmp_path: Path) -> None:
    target = write_label_view(TINY, tmp_path / "screening")
    parser = ConfigParser()
    parser.read_config(str(target / "configs" / "inference.yaml"))
    parser["bundle_root"] = str(target)
    steps = parser.get_parsed_content("postprocessing").transforms
    assert not [step for step in steps if isinstance(step, CaseWriter)]
    assert steps[-1] is levels_of_prediction
    assert (target / "models" / "model.pt").read_bytes() == (TINY / "models" / "model.pt").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_label_view(TINY, target)


def test_without_weights_the_remedy_is_named(tmp_path: Path) -> None:
    (bundle,) = (folder for folder in BUNDLES if folder.name == "crane")
    if (bundle / "models" / "model.pt").is_file():
        pytest.skip("crane was converted here")
    with pytest.raises(ConfigurationError, match="monai_zsad convert"):
        write_label_view(bundle, tmp_path / "crane")


def test_levels_replace_the_heat_map() -> None:
    heat = MetaTensor(torch.zeros(1, 9, 9, 9), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    heat[:, 1:3, 1:3, 1:3] = 0.9
    heat[:, 5:8, 5:8, 5:8] = 0.6
    labels, found = LesionCandidates()(heat)
    data = {"pred": heat, "pred_labels": labels, "pred_candidates": found, "volume_score": torch.tensor(0.5)}
    after = levels_of_prediction(data)
    assert after["pred"].shape == (1, 9, 9, 9)
    assert (after["pred"][0, 2, 2, 2], after["pred"][0, 6, 6, 6]) == (3, 1)
    np.testing.assert_array_equal(after["pred"].affine, heat.affine)
    assert [one["level"] for one in after["result"]["candidates"]] == ["high suspicion", "low suspicion"]
    assert data["pred"] is heat
