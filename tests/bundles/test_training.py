"""Training as a user starts it: what it learns, what it keeps, and how it goes on."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.metrics import compute_roc_auc
from monai.utils import set_determinism
from torch import nn

from monai_zsad.data import find_user_error
from monai_zsad.errors import ConfigurationError, InputError, OutputError, WeightsError
from monai_zsad.training.start import has_tensorboard
from tests.bundles.runs import ROOT, run_small
from tests.bundles.training_runs import SMALL_TRAINING, command, config_files, start, train, training_parser
from tests.data.labelled import make_mvtec, make_volumes
from tests.data.samples import write_nifti

PARTS = {"prompt_learner": "prompts", "text_adapter": "text_adapter", "image_adapter": "image_adapter"}


@pytest.fixture(autouse=True)
def _interpreter_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    set_determinism(None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mvtec(tmp_path_factory.mktemp("data"), ("bolt",), 4)


def learned(file: Path) -> dict[str, torch.Tensor]:
    content = torch.load(file, map_location="cpu", weights_only=True)
    (part,) = content.keys() & PARTS.keys()
    return content[part]


def assert_equal_weights(one: Path, other: Path, atol: float = 0.0) -> None:
    first, second = learned(one), learned(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=atol)


def losses_of(parser: Any) -> list[float]:
    """Run a configured training and gather its losses."""
    found: list[float] = []
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: found.append(float(engine.state.output["loss"].detach()))
    )
    parser.get_parsed_content("run")
    return found


# ---- what is learned and written -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crane_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("crane") / "trained"
    train("crane", data, output, max_epochs=2)
    return output


@pytest.fixture(scope="module")
def aaclip_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("aaclip") / "trained"
    train("aaclip", data, output, stage=1, max_epochs=1)
    train("aaclip", data, output, stage=2, max_epochs=1)
    return output


def test_crane_writes_the_files_of_the_release(crane_run: Path) -> None:
    names = {file.name for file in crane_run.iterdir() if file.is_file()}
    assert names == {"epoch_1.pth", "epoch_2.pth", "best_prompt_learner.pth", "resume_prompt_learner.pt"}
    content = torch.load(crane_run / "epoch_2.pth", weights_only=True)
    assert set(content) == {"prompt_learner"}
    kinds = [
        f"{name}_{kind}"
        for kind in ("pos", "neg")
        for name in ("ctx", "token_prefix", "token_suffix", "tokenized_prompts")
    ]
    assert set(content["prompt_learner"]) == {*kinds, *(f"compound_prompts_text.{i}" for i in range(8))}


def test_released_crane_checkpoints_have_the_same_keys(crane_run: Path, shared: Path) -> None:
    released = next((shared / "checkpoints" / "crane").rglob("*.pth"))
    assert learned(released).keys() == learned(crane_run / "epoch_1.pth").keys()


def test_aaclip_writes_the_files_of_the_release(aaclip_run: Path) -> None:
    names = {file.name for file in aaclip_run.iterdir() if file.suffix == ".pth"}
    own = {"best_text_adapter.pth", "best_image_adapter.pth"}
    assert names == {"text_adapter.pth", "image_adapter.pth", "image_adapter_1.pth"} | own
    text = torch.load(aaclip_run / "text_adapter.pth", weights_only=True)
    image = torch.load(aaclip_run / "image_adapter_1.pth", weights_only=True)
    assert set(text) == {"epoch", "text_adapter", "text_optimizer"}
    assert set(image) == {"epoch", "image_adapter", "image_optimizer"}
    assert text["epoch"] == image["epoch"] == 1
    assert {"0.fc.0.weight", "3.fc.0.weight"} <= set(text["text_adapter"])


def _infer(bundle: str, folder: Path, **weights: Any) -> np.ndarray:
    write_nifti(folder / "scans" / "anna.nii.gz")
    run_small(ROOT / bundle, folder / "scans", folder / "out", **weights)
    return nibabel.load(next((folder / "out").rglob("*anomaly*.nii.gz"))).get_fdata()


def test_trained_prompts_load_in_the_inference_bundle(crane_run: Path, tmp_path: Path) -> None:
    found = _infer("crane", tmp_path / "own", **{"weights#prompts": str(crane_run / "epoch_2.pth")})
    other = _infer("crane", tmp_path / "seed")
    assert np.isfinite(found).all()
    assert not np.allclose(found, other)


def test_trained_adapters_load_in_the_inference_bundle(aaclip_run: Path, tmp_path: Path) -> None:
    weights = {f"weights#{part}": str(aaclip_run / f"{part}.pth") for part in ("text_adapter", "image_adapter")}
    found = _infer("aaclip", tmp_path / "own", **weights)
    assert np.isfinite(found).all()
    assert not np.allclose(found, _infer("aaclip", tmp_path / "seed"))


@pytest.mark.parametrize(
    ("bundle", "options"),
    [
        ("crane", {"learning_rate": 0.01}),
        ("aaclip", {"stage": 1, "learning_rate": 1e-3, "augment": False}),
        ("aaclip", {"stage": 2, "weights#text_adapter": "seed:1", "learning_rate": 1e-3, "augment": False}),
    ],
    ids=["crane", "aaclip_text", "aaclip_image"],
)
def test_the_loss_goes_down(bundle: str, options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    losses = losses_of(training_parser(bundle, data, tmp_path, max_epochs=10, batch_size=6, **options))
    assert len(losses) == 10
    # A training that learns nothing stays where it began; these lose a fifth of it and more.
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_volumes_with_masks_augmentation_and_names(tmp_path: Path) -> None:
    volumes = make_volumes(tmp_path / "volumes")
    train("crane", volumes, tmp_path / "crane", max_epochs=1, augment=True, slices_per_volume=2, accumulation_steps=2)
    assert (tmp_path / "crane" / "epoch_1.pth").is_file()
    options = {"stage": 2, "weights#text_adapter": "seed:1", "class_names": True, "max_epochs": 1}
    parser = train("aaclip", volumes, tmp_path / "aaclip", slices_per_volume=2, **options)
    assert set(parser.get_parsed_content("network")._kept_anchors) <= {"volumes", ""}
    assert (tmp_path / "aaclip" / "image_adapter_1.pth").is_file()


def test_kept_features_give_the_same_training(data: Path, crane_run: Path, tmp_path: Path) -> None:
    parser = train("crane", data, tmp_path / "out", max_epochs=2, feature_cache=str(tmp_path / "features"))
    assert_equal_weights(tmp_path / "out" / "epoch_2.pth", crane_run / "epoch_2.pth", atol=1e-5)
    cache = parser.get_parsed_content("network")._cache
    assert cache.misses == len(list((tmp_path / "features").iterdir())) == 8
    assert cache.hits == 8


def test_best_epoch_is_kept(crane_run: Path) -> None:
    state = torch.load(crane_run / "resume_prompt_learner.pt", weights_only=True)
    best = state["best"]["best_metric_epoch"]
    assert best in (1, 2)
    assert_equal_weights(crane_run / "best_prompt_learner.pth", crane_run / f"epoch_{best}.pth")


class _NotFinite(nn.Module):
    """A training's network whose answers are NaN while ``broken``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.broken = True

    def forward(self, *inputs: Any, **options: Any) -> torch.Tensor:
        found = self.network(*inputs, **options)
        return torch.full_like(found, torch.nan) if self.broken else found


@pytest.mark.filterwarnings("ignore:.*not finite")
@pytest.mark.parametrize(("bundle", "metric"), [("crane", "pixel_ap"), ("aaclip", "image_auroc")])
def test_an_epoch_of_nan_does_not_stay_the_best(bundle: str, metric: str, data: Path, tmp_path: Path) -> None:
    options = {"stage": 2, "weights#text_adapter": "seed:1"} if bundle == "aaclip" else {}
    parser = training_parser(bundle, data, tmp_path, key_metric=metric, validation_fraction=0.5, **options)
    parser.get_parsed_content("initialize")
    evaluator = parser.get_parsed_content("validate#evaluator")
    network = evaluator.network = _NotFinite(evaluator.network)
    best = []
    for epoch, network.broken in enumerate((True, False, True, False), 1):
        evaluator.run(epoch)
        best.append(evaluator.state.best_metric_epoch)
        assert np.isnan(evaluator.state.metrics[metric]) == network.broken
    assert best == [1, 2, 2, 2]
    assert np.isfinite(evaluator.state.best_metric)


@pytest.mark.parametrize("bundle", ["crane", "aaclip", "tiny_screening"])
def test_every_training_compares_epochs_alike(bundle: str, data: Path, tmp_path: Path) -> None:
    better = training_parser(bundle, data, tmp_path).get_parsed_content("validate#evaluator#metric_cmp_fn")
    nan = float("nan")
    assert better(0.2, 0.1)
    assert better(0.1, nan)
    assert not better(0.1, 0.1)
    assert not better(nan, 0.1)


@pytest.mark.filterwarnings("ignore:.*not finite")
@pytest.mark.parametrize("bundle", ["crane", "aaclip"])
def test_image_auroc_is_monais_but_for_nan(bundle: str, data: Path, tmp_path: Path) -> None:
    metric = training_parser(bundle, data, tmp_path).get_parsed_content("validate#metrics#image_auroc")
    labels = torch.zeros(20, 1, 4, 4)
    labels[::2, 0, 1, 2] = 1

    def auroc(scores: torch.Tensor, order: torch.Tensor) -> float:
        metric.reset()
        for part in order.split(8):
            pred = scores[part, None, None, None].expand(-1, 2, 4, 4)
            # Of all values the score alone counts.
            pred = torch.cat([torch.rand(len(part), 1, 4, 4), pred[:, 1:]], dim=1)
            metric.update(metric._output_transform({"pred": pred, "label": labels[part]}))
        return float(metric.compute())

    generator = torch.Generator().manual_seed(0)
    there, back = torch.arange(20), torch.arange(19, -1, -1)
    distinct = torch.randperm(20, generator=generator) / 20
    for scores in (distinct, (4 * distinct).floor(), torch.full((20,), 0.5)):
        wanted = compute_roc_auc(scores, labels.flatten(1).amax(1))
        assert auroc(scores, there) == pytest.approx(wanted, abs=1e-9)
        assert auroc(scores, back) == pytest.approx(wanted, abs=1e-9)
    # MONAI's gives a number.
    assert np.isnan(auroc(torch.where(distinct == 0.5, torch.nan, distinct), there))


@pytest.mark.parametrize("bundle", ["crane", "aaclip"])
def test_monai_finds_every_property_of_a_training(bundle: str, data: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=config_files(bundle),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(ROOT / bundle),
        dataset_dir=str(data),
        output_dir=str(tmp_path),
        **SMALL_TRAINING,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.skipif(not has_tensorboard(), reason="tensorboard is not installed")
def test_tensorboard_gets_the_losses(crane_run: Path) -> None:
    assert list((crane_run / "tensorboard").glob("events*"))


# ---- going on ------------------------------------------------------------------------------------------------------


class _KilledError(Exception):
    pass


def _interrupt(parser: Any, iteration: int) -> None:
    def stop(engine: Any) -> None:
        if engine.state.iteration == iteration:
            raise _KilledError

    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").add_event_handler(Events.ITERATION_STARTED, stop)
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("run")
    assert isinstance(caught.value.__cause__, _KilledError)


@pytest.mark.parametrize("iteration", [2, 3, 4, 6])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    iteration: int, data: Path, crane_run: Path, tmp_path: Path
) -> None:
    # Three iterations in an epoch: before the first epoch's end, at it, and in the second.
    _interrupt(training_parser("crane", data, tmp_path, max_epochs=2, save_every=1), iteration)
    train("crane", data, tmp_path, max_epochs=2, save_every=1)
    assert_equal_weights(tmp_path / "epoch_2.pth", crane_run / "epoch_2.pth")
    assert_equal_weights(tmp_path / "best_prompt_learner.pth", crane_run / "best_prompt_learner.pth")


def test_augmentation_schedule_and_accumulation_go_on_too(data: Path, tmp_path: Path) -> None:
    options = {
        "stage": 2, "weights#text_adapter": "seed:1", "max_epochs": 2, "save_every": 1, "accumulation_steps": 2,
        "milestones": [2, 4], "batch_size": 1, "num_workers": 0, "device": "cpu",
    }  # fmt: skip
    train("aaclip", data, tmp_path / "whole", **options)
    _interrupt(training_parser("aaclip", data, tmp_path / "parts", **options), 4)
    assert (tmp_path / "parts" / "resume_image_adapter.pt").is_file()
    train("aaclip", data, tmp_path / "parts", **options)
    assert_equal_weights(tmp_path / "parts" / "image_adapter.pth", tmp_path / "whole" / "image_adapter.pth")


def test_a_training_killed_by_the_system_goes_on(data: Path, tmp_path: Path) -> None:
    options = {"max_epochs": 8, "save_every": 2}
    process = start(command("crane", data, tmp_path / "parts", **options), tmp_path / "log")
    try:
        deadline = time.monotonic() + 600
        while not (tmp_path / "parts" / "epoch_1.pth").is_file() and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "parts" / "epoch_8.pth").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed process had: another number adds in another order
    try:
        train("crane", data, tmp_path / "parts", **options)
        train("crane", data, tmp_path / "whole", **options)
    finally:
        torch.set_num_threads(threads)
    assert_equal_weights(tmp_path / "parts" / "epoch_8.pth", tmp_path / "whole" / "epoch_8.pth")


def test_a_finished_training_is_left_alone(data: Path, crane_run: Path) -> None:
    before = (crane_run / "epoch_2.pth").stat().st_mtime_ns
    train("crane", data, crane_run, max_epochs=2)
    assert (crane_run / "epoch_2.pth").stat().st_mtime_ns == before


# ---- mistakes ------------------------------------------------------------------------------------------------------


def _mistake(bundle: str, data: Path, output: Path, **options: Any) -> str:
    with pytest.raises((RuntimeError, ConfigurationError, InputError, OutputError, WeightsError)) as caught:
        train(bundle, data, output, max_epochs=2, **options)
    error = find_user_error(caught.value)
    assert error is not None
    return str(error)


def test_other_settings_do_not_go_on(data: Path, crane_run: Path) -> None:
    message = _mistake("crane", data, crane_run, learning_rate=0.5)
    assert "learning_rate was 0.001, is 0.5" in message
    assert "--output_dir" in message


def test_starting_anew_over_a_training_is_refused(data: Path, crane_run: Path) -> None:
    assert "--overwrite true" in _mistake("crane", data, crane_run, resume=False)


def test_a_damaged_state_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "resume_prompt_learner.pt").write_bytes(b"PK\x03\x04 nothing")
    assert "resume_prompt_learner.pt is damaged" in _mistake("crane", data, tmp_path)


def test_a_folder_without_labelled_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_nifti(tmp_path / "data" / "anna.nii.gz")
    message = _mistake("crane", tmp_path / "data", tmp_path / "out")
    assert str(tmp_path / "data") in message
    assert "CLASS/test/{good,DEFECT}" in message
    assert "Data without masks cannot train" in message


def test_stage_two_needs_stage_one(data: Path, tmp_path: Path) -> None:
    assert "--stage 1" in _mistake("aaclip", data, tmp_path, stage=2)


def test_features_of_augmented_images_are_not_kept(data: Path, tmp_path: Path) -> None:
    assert "--augment false" in _mistake("crane", data, tmp_path, augment=True, feature_cache=str(tmp_path / "f"))


def test_half_precision_weights_are_not_trained(data: Path, tmp_path: Path) -> None:
    options = {"stage": 2, "weights#text_adapter": "seed:1", "precision": "bfloat16"}
    assert "float32" in _mistake("aaclip", data, tmp_path, **options)


def test_a_loss_that_is_not_finite_ends_the_training(data: Path, tmp_path: Path) -> None:
    message = _mistake("crane", data, tmp_path, learning_rate=1e30)
    assert "--learning_rate" in message


# ---- several processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "options", "file"),
    [
        ("crane", {}, "epoch_2.pth"),
        ("aaclip", {"stage": 1}, "text_adapter.pth"),
        ("aaclip", {"stage": 2, "weights#text_adapter": "seed:1"}, "image_adapter_2.pth"),
    ],
    ids=["crane", "aaclip_text", "aaclip_image"],
)
def test_two_processes_train_as_one_with_twice_the_batch(
    bundle: str, options: dict[str, Any], file: str, data: Path, tmp_path: Path
) -> None:
    # Adam divides by the gradient's size: with its own eps, a gradient that is mere rounding makes a whole step.
    settings = {"max_epochs": 2, "validation_fraction": 0.5, "eps": 1e-4, **options}
    train(bundle, data, tmp_path / "one", **{**settings, "batch_size": 4})
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = command(bundle, data, tmp_path / "two", "multi_gpu_train", **settings)
    assert start([*torchrun, *words], tmp_path / "log").wait(300) == 0, (tmp_path / "log").read_text()
    assert_equal_weights(tmp_path / "one" / file, tmp_path / "two" / file, atol=1e-5)
    states = [torch.load(next((tmp_path / folder).glob("resume_*.pt")), weights_only=True) for folder in ("one", "two")]
    assert states[0]["best"]["best_metric"] == pytest.approx(states[1]["best"]["best_metric"], abs=1e-3)
    assert not torch.distributed.is_initialized()
