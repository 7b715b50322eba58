# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own data: training, honest evaluation, a threshold
#
# With your own data, three questions arise:
#
# 1. *Can the model be adapted to my scans?* With normal scans only: by synthetic lesions that are painted into them.
#    With masks of real lesions: by training the prompts or adapters of a published method.
# 2. *How good is the model then?* Measured on scans that were not used for any choice, compared with a simple baseline,
#    and with an interval that shows the uncertainty of few scans.
# 3. *Above which value should I look at a candidate?* Derived from normal scans.
#
# Everything here is very small: synthetic heads, few cases, and dozens of training steps instead of thousands. The
# metrics show how to evaluate a model, not how good a model is. **For research only. Not a medical device, not for
# clinical use.**

# %% [markdown]
# ## Setup

# %%
# !python -c "import monai_zsad" || pip install -q git+https://github.com/monai-zsad/monai-zsad.git

# %%
import json
import logging
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ignite.engine import Events
from IPython.display import display
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.transforms import Compose, LoadImage, LoadImaged, ResampleToMatch
from monai.utils import set_determinism
from torch.utils.data import DataLoader

from monai_zsad import screen
from monai_zsad.losses import ConceptLoss
from monai_zsad.metrics import average_precision, bootstrap_interval, lesion_froc, pooled_froc
from monai_zsad.synthesis import (
    LesionSettings,
    PrepareAnatomyd,
    RandLesion,
    anatomies,
    phantom_head,
    write_phantom,
)
from monai_zsad.training import ResumableSampler
from monai_zsad.training.concepts import ConceptTraining, parameter_groups, prepare_slices
from monai_zsad.training.slices.bank import NormalBank
from monai_zsad.training.slices.batches import TrainingBatches
from monai_zsad.transforms import BodyMask, ScanIntensityd, UprightOrientationd
from monai_zsad.workflow.bundles import bundle_network, find_bundle, load_weights, read_bundle
from monai_zsad.workflow.calibration import collect
from monai_zsad.writers import comparison_figure
from monai_zsad.writers.figures.drawing import draw_contours, draw_slice, grey_range, make_view, slice_label

logging.disable(logging.INFO)  # trainers report every step
warnings.filterwarnings("ignore", category=UserWarning, module="torch.optim")
plt.rcParams["figure.dpi"] = 120

root = Path(os.environ.get("MONAI_DATA_DIRECTORY") or tempfile.mkdtemp()).resolve() / "own_data"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)
set_determinism(seed=0)

# %% [markdown]
# ## The scans, and what each group is used for
#
# Four groups of synthetic heads that look like T1 images. Divide your data by *patient* before anything else, and write
# the groups down. If scans or slices of one patient are in two groups, all metrics are too good.
#
# | group | content | used for |
# |---|---|---|
# | `own` | normal scans | training with synthetic lesions |
# | `masks` | scans with outlined lesions | training of prompts with masks |
# | `reference` | normal scans | the threshold |
# | `test` | scans with outlined lesions | evaluation, once, at the end |

# %% tags=["parameters"]
shape = (96, 96, 14)  # voxels along X, Y, Z
spacing = (2.4, 2.4, 9.0)  # mm
counts = {"own": 4, "masks": 4, "reference": 9, "test": 6}
steps = 24  # of training the included model further
epochs = 4  # of training prompts

# %%
first_seed = {"own": 200, "masks": 300, "reference": 400, "test": 500}
for group, count in counts.items():
    for number in range(count):
        with_lesion = group in ("masks", "test")
        head = phantom_head(shape, spacing, seed=first_seed[group] + number, lesion=with_lesion, contrast="t1")
        truth = f"{group}/labelsTr/{group}{number}.nii.gz" if with_lesion else None
        write_phantom(head, f"{group}/imagesTr/{group}{number}.nii.gz", lesion=truth)
print({group: len(list(Path(group, "imagesTr").iterdir())) for group in counts})

# %% [markdown]
# ## Lesions painted into normal scans
#
# `RandLesion` paints lesions of many kinds into a scan, and returns their mask. The included model was trained on
# such lesions and on tumours of patients. They are outlined in cyan. A model that is trained on them learns to find
# *these* lesions: test it on real ones.

# %%
load = LoadImage(image_only=True, ensure_channel_first=True)
normal = load("own/imagesTr/own0.nii.gz")
grey, _ = grey_range(make_view(normal, normal, None, "axial").scan)
figure, axes = plt.subplots(1, 4, figsize=(10.4, 3.6), facecolor="#101216")
for number, (kind, place) in enumerate(zip(("focal", "lobed", "ring", "diffuse"), axes, strict=True)):
    look = LesionSettings(kinds={kind: 1}, radius_mm=(8, 12), contrast=(0.5, 0.6), hyperintense=number % 2)
    painted = RandLesion(prob=1, count=(2, 2), settings=look).set_random_state(seed=number)(normal)
    view = make_view(painted.image, painted.image, None, "axial", painted.label)
    index = int(np.argmax((view.labels > 0).sum((0, 1))))
    draw_slice(place, view, index, grey)
    draw_contours(place, view, index, {1: "cyan"}, numbers=False)
    place.set_title(f"{kind}\n{slice_label(view, index)}", color="white", fontsize=10)
figure.suptitle("Painted lesions, by their kind", color="white", fontsize=12)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The included model, trained further
#
# `NormalBank` cuts slices from the normal scans with random positions and deformations. `TrainingBatches` gives them
# random contrasts and paints lesions into them. The trainer is MONAI's. `configs/train.yaml` of the bundle does the
# same at full size, with tumours of patients and with checkpoints. Here, a few steps start from the included weights.
# With `settle=0`, the statistics of batch normalisation do not change: those of a few small batches would make the
# model worse.

# %%
bundle = find_bundle("tiny_screening")


def included_model():
    """The bundle's network with its weights, and prompts for a T1 image of a brain."""
    network, released = bundle_network(bundle, bundle_root=str(bundle), anatomy="brain", modality="T1")
    load_weights(network, {}, released, bundle / "models" / "model.pt")
    return network


further = included_model()
training = ConceptTraining(further, seed=0, settle=0, start=bundle / "models" / "model.pt")
preparation = Compose(
    [
        LoadImaged(keys="t1", ensure_channel_first=True),
        UprightOrientationd(keys="t1", plane="axial"),
        ScanIntensityd(keys="t1", window="percentile"),
        PrepareAnatomyd(keys="t1", depth_mm=14),
    ]
)
records = [{"t1": file.name} for file in sorted(Path("own/imagesTr").iterdir())]
bank = NormalBank(anatomies(records, "own/imagesTr", preparation), 32, "slices", size=further.image_size)
bank.fill()
dataset = TrainingBatches(bank, steps=steps, parts=1, counts=(0, 4, 0))  # four slices a step, all with painted lesions
losses = []
trainer = SupervisedTrainer(
    device=torch.device("cpu"),
    max_epochs=1,
    train_data_loader=DataLoader(dataset, sampler=ResumableSampler(dataset, shuffle=False), batch_size=None),
    network=training,
    optimizer=torch.optim.AdamW(parameter_groups(training, 2e-4), weight_decay=0.02, betas=(0.9, 0.98)),
    loss_function=ConceptLoss(),
    prepare_batch=prepare_slices,
    inferer=SimpleInferer(),
    decollate=False,
)
trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item()))
trainer.run()
training.eval()
further.update_text_anchors()
torch.save(further.portable_state_dict(), "further.pt")
print(f"{len(losses)} steps on {len(records)} normal scans; loss: first {losses[0]:.2f}, last {losses[-1]:.2f}")

# %% [markdown]
# A decreasing loss shows that the network learns the training data. Only the test group shows whether it finds lesions.
#
# ## Fair evaluation
#
# A fair evaluation uses
#
# - the test group, which was not used for any choice;
# - prompts that were selected before, the same for both models;
# - a baseline without training: here the darkness inside the body, because lesions on T1 are dark;
# - an interval over scans. Voxels of one scan depend on each other, so complete scans are resampled.
#
# Average precision over voxels is the area under the curve of precision and sensitivity. A random map reaches the
# share of lesion voxels.

# %%
parser = read_bundle(bundle, {"bundle_root": str(bundle), "progress": False})
prepare, inferer = parser.get_parsed_content("preprocessing"), parser.get_parsed_content("inferer")

cases = []  # the scan as the network sees it; its truth and its body on that grid
for file in sorted(Path("test/imagesTr").iterdir()):
    volume = prepare({"image": str(file), "case": file.name})["image"]
    truth = ResampleToMatch(mode="nearest")(load(f"test/labelsTr/{file.name}"), volume)
    cases.append((volume, truth[0].numpy() > 0, BodyMask()(volume)[0].numpy() > 0))

maps = {"darkness alone": [(1 - volume[0].numpy()) * body for volume, _, body in cases]}
for name, network in {"included": included_model(), "trained further": further}.items():
    with torch.no_grad():
        maps[name] = [inferer(volume[None], network)[0, 0].numpy() * body for volume, _, body in cases]

share = float(np.mean([truth[body].mean() for _, truth, body in cases]))
print(f"average precision over voxels; chance reaches {share:.4f}")
intervals = {}
for name, heats in maps.items():
    inside = [heat[body] for heat, (_, _, body) in zip(heats, cases, strict=True)]
    marks = [truth[body] for _, truth, body in cases]
    found = intervals[name] = bootstrap_interval(average_precision, inside, marks, resamples=100)
    print(f"{name:16s} {found.value:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}")

# %% [markdown]
# The free-response curve (FROC) answers the question of a reader: how many lesions are found, and with how many false
# candidates per scan?

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4), layout="constrained")
for (name, heats), wide in zip(maps.items(), (5, 3, 1.5), strict=True):  # curves may lie on one another
    values = np.concatenate([heat[body] for heat, (_, _, body) in zip(heats, cases, strict=True)])
    thresholds = np.quantile(values, 1 - np.geomspace(1e-5, 0.1, 60))
    curves = [
        lesion_froc(heat, truth, body, thresholds=thresholds, min_voxels=4)
        for heat, (_, truth, body) in zip(heats, cases, strict=True)
    ]
    rates = np.linspace(0, 8, 81)
    left.step(rates, [pooled_froc(curves).at(rate) for rate in rates], where="post", label=name, linewidth=wide)
left.set(
    xlabel="false candidates per scan", ylabel="share of lesions found", ylim=(-0.03, 1.03), title="FROC, test group"
)
left.legend()
left.grid(alpha=0.3)
for row, found in enumerate(intervals.values()):
    right.plot([found.low, found.high], [row, row], color="0.5", linewidth=2)
    right.plot(found.value, row, "o", color=f"C{row}")
right.axvline(share, color="0.3", linestyle=":", label="chance")
right.set_yticks(range(len(intervals)), intervals)
right.set(xlabel="average precision over voxels", xlim=(0, 1), ylim=(-0.6, len(intervals) - 0.4))
right.set_title("Average precision with 95 % intervals")
right.legend()
right.grid(axis="x", alpha=0.3)
plt.show()

# %% [markdown]
# If the intervals overlap, you do not know which model is better. Both models were tested on the same scans, so also
# compare them scan by scan: a few training steps can make a model worse. Look at the maps, too. The lesion is outlined
# in cyan:

# %%
volume, truth, _ = cases[0]
index = int(truth.sum((0, 1)).argmax())
shown = {name: MetaTensor(heats[0][None]).copy_meta_from(volume) for name, heats in maps.items()}
figure = comparison_figure(volume, shown, index, title="A test scan")
marks = MetaTensor(truth[None].astype(np.float32)).copy_meta_from(volume)
view = make_view(volume, marks, None, None, marks)
center = volume.affine.numpy()[:3] @ [*(np.array(truth.shape[:2]) / 2), index, 1]
for axes in figure.axes[:4]:
    draw_contours(axes, view, view.index_of(center), {1: "cyan"}, numbers=False)
figure.set_dpi(120)
display(figure)

# %% [markdown]
# ## Training with masks: prompts of a published method
#
# With masks of real lesions, the learned prompts of Crane (or AA-CLIP's adapters) can be trained; CLIP does not
# change. The bundle's `train.yaml`, merged over its `inference.yaml`, trains with images or volumes with masks. Equal
# file names in `imagesTr/` and `labelsTr/` are one of the layouts that are detected.
#
# Here, CLIP is very small and has **random weights**. The example shows only the software: how to run a training, its
# checkpoints and its loss.

# %%
crane = find_bundle("crane")
workflow = ConfigWorkflow(
    config_file=[str(crane / "configs" / name) for name in ("inference.yaml", "train.yaml")],
    workflow_type="train",
    logging_file=False,
    bundle_root=str(crane),
    dataset_dir="masks",
    output_dir="trained",
    architecture={
        "embed_dim": 64,
        "vision_cfg": {"image_size": 112, "layers": 4, "width": 128, "patch_size": 14},
        "text_cfg": {"width": 64, "heads": 1, "layers": 10},
    },
    image_size=112,
    **{"weights#clip": "seed:0", "network_def#path_blocks": 3},
    max_epochs=epochs,
    batch_size=4,
    validation_fraction=0.25,
    learning_rate=0.003,
    tensorboard=False,
    device="cpu",
)
workflow.initialize()
prompt_losses = []
workflow.parser.get_parsed_content("train#trainer").add_event_handler(
    Events.ITERATION_COMPLETED, lambda engine: prompt_losses.append(engine.state.output["loss"].item())
)
workflow.run()
workflow.finalize()
print("\n".join(sorted(str(file) for file in Path("trained").rglob("*.pt*"))))

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
axes.plot(range(1, len(prompt_losses) + 1), prompt_losses, ".-")
axes.set(xlabel="step", ylabel="loss (no unit)", title="Training Crane's prompts (random CLIP, not a finding)")
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# AA-CLIP's adapters are trained in the same way in two stages: `bundles/aaclip`, `--stage 1`, then `--stage 2`.
#
# ## A threshold
#
# The values of a map are not probabilities. To interpret them, use normal scans of the same kind as the scans that
# you screen. A calibration gives a threshold: at most a share `alpha` of *normal* scans has a candidate above it
# (split conformal prediction). With n reference scans, `alpha` cannot be below 1 / (n + 1). A calibration is valid
# only for the model that was used for it; here, this is the model that was trained further. On the command line:
#
# ```bash
# python -m monai_zsad screen reference/imagesTr -o reference_results --anatomy brain --modality T1 \
#     --threshold 0.1 --weights model=further.pt
# python -m monai_zsad calibrate reference_results -o normal.json
# python -m monai_zsad screen test/imagesTr -o test_results --anatomy brain --modality T1 \
#     --threshold 0.1 --weights model=further.pt --calibration normal.json
# ```

# %%
options = {"anatomy": "brain", "modality": "T1", "threshold": 0.1, "weights": {"model": "further.pt"}}
options |= {"report": "none", "progress": False}
screen("reference/imagesTr", "reference_results", **options)
calibration = collect("reference_results", bundle="tiny_screening")
calibration.save("normal.json")
alpha = math.ceil(1000 / (calibration.n + 1)) / 1000  # the smallest that so many scans allow
threshold = calibration.threshold(alpha)
print(f"\n{calibration.n} reference scans, alpha {alpha:.2f}: threshold {threshold:.2f}")

# %%
screened = screen("test/imagesTr", "test_results", calibration="normal.json", **options)
results = [json.loads(case.files["findings"].read_text()) for case in screened.cases.values()]
peaks = {
    "normal\n(reference)": [scan.peak_score or 0 for scan in calibration.scans],
    "with a lesion\n(test)": [max((c["peak_score"] for c in result["candidates"]), default=0) for result in results],
}

figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
rng = np.random.default_rng(0)
for row, values in enumerate(peaks.values()):
    axes.plot(values, row + rng.uniform(-0.15, 0.15, len(values)), "o", alpha=0.7)
axes.axvline(threshold, color="tab:red", linestyle="--", label=f"threshold for alpha = {alpha:.2f}")
axes.set_yticks(range(len(peaks)), peaks)
axes.set(xlabel="highest peak of a candidate in the scan (no unit)", ylim=(-0.6, 1.9), xlim=(0, 1.03))
axes.set_title("Normal scans and scans with a lesion")
axes.legend(loc="upper left")
axes.grid(axis="x", alpha=0.3)
plt.show()

# %% [markdown]
# If the two rows overlap, no threshold separates normal scans from scans with a lesion.
#
# Each candidate of the test scans now has a p-value. It says how rarely a *normal* scan has a candidate with such a
# high value. It is not the probability that the candidate is a lesion. The peaks are those of the refined map, which is
# limited to 1, so several peaks may be equal. The volume score is computed before the refinement.

# %%
print("scan    volume score  p of the volume   candidates with their p-values")
for result in results:
    found = ", ".join(f"{c['peak_score']:.2f} (p {c['p_value']:.2f})" for c in result["candidates"][:3])
    print(f"{result['case']:7s} {result['volume_score']:11.2f}  {result['volume_p_value']:14.2f}    {found}")

# %% [markdown]
# ## Cleanup

# %%
os.chdir(root.parents[1])
if not os.environ.get("MONAI_DATA_DIRECTORY"):
    shutil.rmtree(root.parent)

# %% [markdown]
# ## Versions and licence
#
# Copyright (c) monai-zsad contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# &nbsp;&nbsp;&nbsp;&nbsp;http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# %%
from monai.config import print_config

print_config()
