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
# %% [markdown]
# # Methods side by side
#
# The published methods of this package on the same slices: Crane, AnomalyCLIP, AA-CLIP, and AnoCLIP with and without
# its adaptation to each slice at test time. All use a CLIP that was trained on photographs of all kinds, and compare
# each patch with prompts for normal and for anomalous. They differ in two ways: how they compute patch features with
# a network that was trained for complete images, and where the prompts come from.
#
# | method | patch features | prompts | training |
# |---|---|---|---|
# | Crane | a second path of q-q, k-k and v-v attention | learned vectors | the vectors, on photographs |
# | AnomalyCLIP | a second path of v-v attention | learned vectors | the vectors, on photographs |
# | AA-CLIP | four levels, adapters in the first blocks | sentences, adapters | adapters, on images with masks |
# | AnoCLIP | v-v attention | sentences | nothing; adapted: a small layer on each slice |
#
# **Here the weights are random.** The published weights are large, and a notebook does not download them. Small
# networks with seeded random weights run in seconds. They show the software: how to set up methods, compare them and
# draw their maps. They do not show what a method finds; every figure says so. The last section shows how to run the
# same with real weights.
#
# **For research only. Not a medical device, not for clinical use.**

# %% [markdown]
# ## Setup environment

# %%
# !python -c "import monai_zsad" || pip install -q -e ..
# %matplotlib inline

# %% [markdown]
# ## Setup imports

# %%
import logging
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from monai.bundle import ConfigWorkflow
from monai.config import print_config
from monai.transforms import SpatialCrop
from scipy.stats import spearmanr

from monai_zsad.evaluation.comparison.methods import compare_methods
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import AACLIP, AnoCLIP, AnomalyCLIP, Crane, TestTimeAdaptation
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.transforms import BodyMask
from monai_zsad.workflow.bundles import find_bundle
from monai_zsad.writers import comparison_figure

logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
plt.rcParams["figure.dpi"] = 80
print_config()

# %% [markdown]
# ## Setup a folder

# %%
directory = os.environ.get("MONAI_DATA_DIRECTORY")
root = Path(directory or tempfile.mkdtemp()).resolve() / "methods"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## The scan as input of the networks
#
# A FLAIR-like phantom with one bright lesion. The preprocessing is that of the bundles and the same for all methods:
# upright slices, values in [0, 1], cropped to the body, square.

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3
image_size = 112  # of the small networks, in pixels

# %%
head = phantom_head(shape, spacing, seed=seed)
scan = write_phantom(head, "scan/head.nii.gz")
bundle = find_bundle("tiny_screening")
workflow = ConfigWorkflow(
    config_file=str(bundle / "configs" / "inference.yaml"),
    workflow_type="infer",
    logging_file=False,
    bundle_root=str(bundle),
    dataset_dir=str(scan),
    output_dir="results",
    overwrite=True,
    progress=False,
    anatomy="brain",
    modality="FLAIR",
)
workflow.initialize()
volume = workflow.preprocessing({"image": str(scan), "case": "head"})["image"]
window = volume.meta["intensity"]
number = round(float((np.linalg.inv(head.affine) @ [*head.center_mm, 1])[2]))
away = round(22 / spacing[2])
chosen = [number, number + away if number + away < shape[2] else number - away]  # through the lesion, and without
print(f"{tuple(volume.shape)}; window: {window}; slices {chosen}")

# %% [markdown]
# ## The networks
#
# Every method is a MONAI network that maps slices (B, C, H, W) in [0, 1] to (B, 2, H, W): the map and the score. Here
# they share one small CLIP architecture, and use `seed:0` instead of a weights file. Without weights, a network
# returns NaN. It never uses random weights unless you ask for them.

# %%
architecture = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 112, "layers": 4, "width": 128, "patch_size": 7},
    "text_cfg": {"width": 64, "heads": 1, "layers": 10},
}
words = PromptEnsemble.named("anoclip_medical", anatomy="brain", modality="FLAIR")
examination = PromptEnsemble.named("aaclip_examination", anatomy="brain", modality="FLAIR")

networks = {
    "Crane": Crane(architecture, image_size, path_blocks=3),
    "AnomalyCLIP": AnomalyCLIP(architecture, image_size),
    "AA-CLIP": AACLIP(architecture, image_size, prompts=examination),
    "AnoCLIP": AnoCLIP(architecture, image_size, prompts=words),
    "AnoCLIP, adapted": AnoCLIP(architecture, image_size, prompts=words, adaptation=TestTimeAdaptation(steps=5)),
}
networks["Crane"].load_weights(clip="seed:0", prompts="seed:0")
networks["AnomalyCLIP"].load_weights(clip="seed:0", prompts="seed:0")
networks["AA-CLIP"].load_weights(clip="seed:0", image_adapter="seed:1", text_adapter="seed:1")
networks["AnoCLIP"].load_weights(clip="seed:0")
networks["AnoCLIP, adapted"].load_weights(clip="seed:0")

for name, network in networks.items():
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"{name:17s} {millions:4.1f} M parameters, random weights: {network.meaningless}")

# %% [markdown]
# ## One call for all
#
# `compare_methods` runs all methods on the same slices. Methods that use the same CLIP share one pass through it.
# AA-CLIP changes the features inside CLIP, so it runs separately.

# %%
label = "random weights: shows the software, not a finding"
inferer = VolumeSliceInferer(batch_size=2)
comparison = compare_methods(networks, volume, slices=chosen, inferer=inferer, case=label)
for group in comparison.groups:
    print("one pass:", ", ".join(group))
print()
print(comparison.table())

# %% [markdown]
# ## Maps side by side
#
# With random weights, each map has a different range of values. First, all maps are shown in one colour scale, from
# the lowest to the highest value of these slices (without 1 % at each end). With real weights, use the full range
# from 0 to 1.

# %%
shown = [comparison.numbers.index(each) for each in chosen]
values = torch.cat([heat[..., shown].flatten() for heat in comparison.maps.values()])
figure = comparison.figure(chosen[0], limits=(float(values.quantile(0.01)), float(values.quantile(0.99))))
figure.set_dpi(62)
display(figure)

# %% [markdown]
# Then the maps are shown by ranks: the colour of a pixel is the share of pixels in the body with a lower value. Each
# map then uses the complete colour scale.


# %%
body = BodyMask()(volume)


def ranks(heat):
    """A map (1, X, Y, Z) with each value of the shown slices replaced by its rank in the body, 0 to 1."""
    ranked = torch.zeros_like(heat)
    for index in shown:
        inside = body[0, ..., index] > 0
        ordered = heat[0, ..., index][inside].sort().values
        ranked[0, ..., index] = inside * torch.searchsorted(ordered, heat[0, ..., index].contiguous()) / len(ordered)
    return ranked


by_rank = {name: ranks(heat) for name, heat in comparison.maps.items()}
figure = comparison_figure(volume, by_rank, shown[0], title=f"RANKS in the body, {label};   window: {window}")
figure.axes[-1].set_ylabel("rank in the body (0 to 1)", fontsize=8, color="white")
figure.set_dpi(62)
display(figure)

# %% [markdown]
# ## How similar the methods are
#
# Ranks do not depend on the scale of a map. The rank correlation over the pixels of the body shows whether two
# methods have high values at the same positions. With real weights, two methods that agree strongly do not give
# independent opinions.

# %%
inside = body[0][..., shown].numpy() > 0
ranked = np.stack([heat[0][..., shown].numpy()[inside] for heat in comparison.maps.values()], axis=1)
correlation = spearmanr(ranked).statistic

figure, axes = plt.subplots(figsize=(6.2, 4.4))
picture = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
axes.set_xticks(range(len(networks)), networks, rotation=35, ha="right")
axes.set_yticks(range(len(networks)), networks)
for row, column in np.ndindex(correlation.shape):
    colour = "white" if abs(correlation[row, column]) > 0.6 else "black"
    axes.text(column, row, f"{correlation[row, column]:.2f}", ha="center", va="center", fontsize=8, color=colour)
axes.set(xlabel="method", ylabel="method", title=f"Agreement of maps\n{label}")
axes.title.set_fontsize(10)
figure.colorbar(picture, label="correlation of ranks (no unit)")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What the adaptation does
#
# AnoCLIP's test-time adaptation trains a small layer on each slice, for a few steps. Its loss prefers pixels that are
# clearly normal or abnormal, and the same result after noise was added. Every slice starts from the same layer, so
# the result does not depend on other slices. The figure shows the difference of the two maps in the slice through the
# lesion:

# %%
plain, adapted = (comparison.maps[name][0, ..., shown[0]].numpy() for name in ("AnoCLIP", "AnoCLIP, adapted"))
difference = adapted - plain
extreme = float(abs(difference).max()) or 1.0

figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4))
picture = left.imshow(difference, cmap="RdBu_r", vmin=-extreme, vmax=extreme)
left.set(title=f"adapted - plain, slice {chosen[0]}", xticks=[], yticks=[])
for letter, (column, row) in zip("RLAP", ((0.04, 0.5), (0.96, 0.5), (0.5, 0.96), (0.5, 0.04)), strict=True):
    left.text(column, row, letter, transform=left.transAxes, ha="center", va="center", fontsize=10, weight="bold")
figure.colorbar(picture, ax=left, label="difference of the maps (no unit)")
right.plot(plain.ravel(), adapted.ravel(), ".", markersize=1, alpha=0.4)
right.set(xlabel="map of AnoCLIP (no unit)", ylabel="map, adapted (no unit)", title="each dot a pixel")
right.grid(alpha=0.3)
figure.suptitle(label, fontsize=10)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The included model on the same slices
#
# `ScreeningCLIP`, the model that comes with the package, uses the comparison of AA-CLIP in a small network that was
# trained on synthetic lesions; its weights are real. Its input is each slice with its neighbours, so it has its own
# inferer. Do not compare its result with the others: the networks above have learned nothing, and this one was
# trained for bright spheres in phantoms.

# %%
start = max(0, shown[0] - 1)
around = SpatialCrop(roi_start=(0, 0, start), roi_end=(*volume.shape[1:3], start + 3))(volume)
with torch.no_grad():
    included = workflow.inferer(around[None], workflow.network_def)[0, :1]
figure = comparison_figure(around, {"ScreeningCLIP (trained)": included}, shown[0] - start, title=f"window: {window}")
figure.set_dpi(72)
display(figure)

# %% [markdown]
# ## With real weights
#
# The same calls with the released weights. They are downloaded once (CLIP has about 0.9 GB), and their hash is checked:
#
# ```python
# crane = Crane()  # ViT-L/14@336 at 518 x 518
# crane.load_weights(clip="ViT-L-14-336:openai", prompts="crane:mvtec_epoch5")
# ```
#
# `python -m monai_zsad weights list` lists the known weights, and `python -m monai_zsad compare` runs complete
# bundles on a scan:
#
# ```bash
# python -m monai_zsad compare scan/head.nii.gz --output compared --bundle bundles/crane --bundle bundles/crane_plus
# ```
#
# The published prompts were learned on photographs of industrial objects. Expect false alarms in normal anatomy.
# Lesions smaller than the distance between patches may be missed. This project has not measured their accuracy.
#
# ## Cleanup

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
