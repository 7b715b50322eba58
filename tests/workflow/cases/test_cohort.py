"""The bundle `musc`, small: two passes over a folder, references, and what a run refuses or goes on with."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel
import numpy as np
import pytest

from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError, InputError, OutputError
from monai_zsad.mutual.inferer import MutualInferer
from monai_zsad.mutual.references import References
from monai_zsad.mutual.store import StoredScan
from monai_zsad.synthesis.phantoms.files import write_phantom
from monai_zsad.synthesis.phantoms.head import phantom_head
from monai_zsad.workflow.calibration import collect
from monai_zsad.workflow.console.events import listening
from tests.bundles.runs import ROOT, config_file, run_small
from tests.networks.zoo import ARCHITECTURE, IMAGE_SIZE

MUSC = ROOT / "musc"
SIZE = {"image_size": 32, "report": "none", "device": "cpu"}


@pytest.fixture(autouse=True)
def _interpreter_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))


def head(folder: Path, seed: int, contrast: str = "FLAIR") -> Path:
    phantom = phantom_head((24, 28, 4), (8.0, 8.0, 36.0), seed=seed, contrast=contrast.lower())
    return write_phantom(phantom, folder / f"head{seed}_{contrast}.nii.gz")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        head(folder, seed)
    return folder


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scans whose features are computed; ``stop`` among them ends the run there."""
    found: list[str] = []
    extract = MutualInferer.extract

    def watched(self: MutualInferer, inputs: Any, network: Any) -> dict[str, Any]:
        if "stop" in found and len(found) > 1:
            raise KeyboardInterrupt
        found.append(Path(inputs.meta["source_files"][0]).name.partition("_")[0])
        return extract(self, inputs, network)

    monkeypatch.setattr(MutualInferer, "extract", watched)
    return found


def run(scans: Path, output: Path, **options: Any) -> None:
    run_small(MUSC, scans, output, **{**SIZE, **options})


def refused(error: type[Exception], scans: Path, output: Path, **options: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # MONAI wraps it
        run(scans, output, **options)
    found = find_user_error(caught.value)
    assert isinstance(found, error)
    return str(found)


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "status.csv").open(encoding="utf-8", newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def findings(output: Path, case: str) -> dict[str, Any]:
    return json.loads((output / case / "findings.json").read_text(encoding="utf-8"))


def map_of(output: Path, case: str) -> np.ndarray:
    return np.asarray(nibabel.load(output / case / "anomaly.nii.gz").dataobj)


def test_scans_are_compared_with_one_another(scans: Path, tmp_path: Path, extracted: list[str]) -> None:
    run(scans, tmp_path / "out")
    assert extracted == ["head0", "head1", "head2"]
    assert {row["status"] for row in rows(tmp_path / "out").values()} == {"done"}
    found = findings(tmp_path / "out", "head1_FLAIR")
    assert found["model"]["head"]["method"] == "MuSc"
    assert any("compared with only 2 scans" in sentence for sentence in found["warnings"])
    assert 0 < map_of(tmp_path / "out", "head1_FLAIR").max() <= 1

    # With the same name, features and results of other weights are apart; results are not mixed.
    message = refused(OutputError, scans, tmp_path / "out", **{"weights#model": "seed:1"}, resume=True)
    assert "another model or other settings" in message

    before = map_of(tmp_path / "out", "head1_FLAIR")
    for file in (tmp_path / "out" / "head1_FLAIR").iterdir():
        file.unlink()
    run(scans, tmp_path / "out", resume=True)
    assert len(extracted) == 3
    np.testing.assert_array_equal(map_of(tmp_path / "out", "head1_FLAIR"), before)


def test_an_interrupted_first_pass_goes_on(scans: Path, tmp_path: Path, extracted: list[str]) -> None:
    extracted.append("stop")
    with pytest.raises(KeyboardInterrupt):
        run(scans, tmp_path / "out")
    assert extracted == ["stop", "head0"]
    extracted.remove("stop")
    run(scans, tmp_path / "out")
    assert sorted(extracted) == ["head0", "head1", "head2"]
    assert len(rows(tmp_path / "out")) == 3


def test_kinds_are_apart_and_a_scan_alone_of_its_kind_is_refused(scans: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "scans"
    mixed.mkdir()
    for file in scans.iterdir():
        (mixed / file.name).symlink_to(file)
    head(mixed, 7, "T1")
    (mixed / "copy_FLAIR.nii.gz").write_bytes((mixed / "head0_FLAIR.nii.gz").read_bytes())
    (mixed / "same_FLAIR.nii").write_bytes(gzip.decompress((mixed / "head0_FLAIR.nii.gz").read_bytes()))
    for copy in "ab":
        (mixed / f"{copy}_T2.nii.gz").write_bytes((scans / "head0_FLAIR.nii.gz").read_bytes())
    told = []
    with pytest.raises(SystemExit), listening(lambda name, fields: told.append((name, fields))):
        run(mixed, tmp_path / "out")
    assert [fields for name, fields in told if name == "kind"] == [
        {"kind": f"unknown modality, {contrast}, axial slices", "scans": scans}
        for contrast, scans in (("t2", 2), ("flair", 5), ("t1", 1))
    ]
    found = rows(tmp_path / "out")
    assert found["head7_T1"]["status"] == "refused"
    assert "no other scan of its kind (unknown modality, t1, axial slices)" in found["head7_T1"]["reason"]
    assert {found[case]["status"] for case in found if "FLAIR" in case} == {"done"}
    assert "only copies of it are among the scans" in found["a_T2"]["reason"]
    # A scan is not compared with its copy, also as another file.
    warnings = {case: findings(tmp_path / "out", case)["warnings"] for case in ("head0_FLAIR", "head1_FLAIR")}
    assert any("compared with only 2 scans" in sentence for sentence in warnings["head0_FLAIR"])
    assert any("compared with only 4 scans" in sentence for sentence in warnings["head1_FLAIR"])


def test_a_scan_that_cannot_be_read_is_left_out_of_both_passes(scans: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "scans"
    damaged.mkdir()
    for file in scans.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "head9_FLAIR.nii.gz").write_bytes((damaged / "head0_FLAIR.nii.gz").read_bytes()[:200])
    with pytest.raises(SystemExit):
        run(damaged, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [case for case in found if found[case]["status"] != "done"] == ["head9_FLAIR"]
    assert found["head9_FLAIR"]["codes"] == "damaged"


def test_references(scans: Path, tmp_path: Path, extracted: list[str]) -> None:
    # Leave-one-out: each normal scan is compared with the other ones, for p-values.
    run(scans, tmp_path / "normal", reference=str(scans))
    bank = References(tmp_path / "normal" / "references.safetensors")
    assert len(bank) == 3
    assert any("2 scans" in sentence for sentence in findings(tmp_path / "normal", "head0_FLAIR")["warnings"])
    calibration = collect(tmp_path / "normal", "musc")
    calibration.save(tmp_path / "normal.json")

    new = tmp_path / "new"
    head(new, 5)
    run(new, tmp_path / "out", reference=str(scans), calibration=str(tmp_path / "normal.json"))
    found = findings(tmp_path / "out", "head5_FLAIR")
    assert found["model"]["head"]["reference"] == bank.identity
    assert 0 < found["volume_p_value"] <= 1

    # The file gives the same results, without the scans.
    count = len(extracted)
    run(new, tmp_path / "again", reference=str(bank.file))
    assert len(extracted) == count
    assert findings(tmp_path / "again", "head5_FLAIR")["model"]["head"] == found["model"]["head"]
    np.testing.assert_array_equal(map_of(tmp_path / "again", "head5_FLAIR"), map_of(tmp_path / "out", "head5_FLAIR"))

    options = {"reference": str(bank.file), "weights#model": "seed:1"}
    assert "was made with other values of weights" in refused(ConfigurationError, new, tmp_path / "other", **options)
    message = refused(ConfigurationError, new, tmp_path / "other", reference=str(bank.file), degrees=[1, 3])
    assert "degrees" in message


def test_what_is_refused_at_once(scans: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    head(one, 0)
    assert "give a folder with at least two scans" in refused(InputError, one, tmp_path / "out")
    assert "does not exist" in refused(InputError, one, tmp_path / "out", reference=str(tmp_path / "none"))
    assert "choose random or nearest" in refused(ConfigurationError, scans, tmp_path / "out", choice="best")
    assert "coreset=0" in refused(ConfigurationError, scans, tmp_path / "out", coreset=0)
    assert "neighbours=0" in refused(ConfigurationError, scans, tmp_path / "out", neighbours=0)


def test_three_planes_of_isotropic_scans(tmp_path: Path) -> None:
    for seed in range(2):
        phantom = phantom_head((14, 16, 14), (14.0, 14.0, 14.0), seed=seed)
        write_phantom(phantom, tmp_path / "scans" / f"head{seed}.nii.gz")
    planes = ["axial", "coronal", "sagittal"]
    run(tmp_path / "scans", tmp_path / "out", fused_planes=planes)
    assert findings(tmp_path / "out", "head0")["settings"]["fused_planes"] == planes
    assert map_of(tmp_path / "out", "head0").max() > 0
    store = next((tmp_path / "out" / ".features" / "scans").iterdir())
    stored = StoredScan(store / "head0" / "features.safetensors")
    assert stored.kind.planes == tuple(planes)
    assert stored.planes.unique().tolist() == [0, 1, 2]


def test_a_limit_counts_in_both_passes(scans: Path, tmp_path: Path, extracted: list[str]) -> None:
    run(scans, tmp_path / "out", limit=2, neighbours=1, choice="nearest", fuse="rank")
    assert extracted == ["head0", "head1"]
    assert list(rows(tmp_path / "out")) == ["head0_FLAIR", "head1_FLAIR"]


@pytest.mark.parametrize(
    ("overlay", "options"),
    [
        ("clip", {"architecture": ARCHITECTURE, "image_size": IMAGE_SIZE, "fuse": "mean"}),
        ("dinov2", {"architecture": "vit_small_patch14_reg4_dinov2", "image_size": 28}),
    ],
)
def test_other_networks(scans: Path, tmp_path: Path, overlay: str, options: dict[str, Any]) -> None:
    files = [config_file(MUSC), str(MUSC / "configs" / f"{overlay}.yaml")]
    given = {**SIZE, **options, f"weights#{overlay}": "seed:0", "bundle_root": str(MUSC), "progress": False}
    monai.bundle.run(
        config_file=files, logging_file=False, dataset_dir=str(scans), output_dir=str(tmp_path / "out"), **given
    )
    found = findings(tmp_path / "out", "head0_FLAIR")
    assert list(found["model"]["weights"]) == [overlay]
    assert found["model"]["head"]["features"]["source"] == "auto"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "process", "ray"])
def test_processes_share_both_passes(scans: Path, tmp_path: Path, how: str) -> None:
    if how == "ray":
        pytest.importorskip("ray", reason="needs Ray: pip install monai-zsad[ray]")
    options = {**SIZE, "weights#model": "seed:0", "progress": False}
    if how == "torchrun":
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "monai.bundle", "run"]
        command += ["--config_file", config_file(MUSC), "--bundle_root", str(MUSC), "--dataset_dir", str(scans)]
        command += [
            "--output_dir",
            str(tmp_path / "several"),
            *(f"--{name}={value}" for name, value in options.items()),
        ]
    else:
        command = ["-m", "monai_zsad", "screen", str(scans), "-o", str(tmp_path / "several"), "-b", "musc"]
        command += ["--engine", how, "--workers", "2", *(f"--set={name}={value}" for name, value in options.items())]
    subprocess.run([sys.executable, *command], check=True)
    run(scans, tmp_path / "one")
    for case in rows(tmp_path / "one"):
        np.testing.assert_array_equal(map_of(tmp_path / "several", case), map_of(tmp_path / "one", case))
