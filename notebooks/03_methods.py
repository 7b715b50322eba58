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
# # Methods side by side
#
# The published methods of this package on the same slices: Crane, AnomalyCLIP, AA-CLIP, and AnoCLIP with and without
# its adaptation to each slice. All use a CLIP that was trained on photographs, and compare each patch with prompts for
# normal and for anomalous. They differ in how they compute the features of a patch, and in where the prompts come from.
#
# | method | patch features | prompts | training |
# |---|---|---|---|
# | Crane | a second path of q-q, k-k and v-v attention | learned vectors | the vectors, on photographs |
# | AnomalyCLIP | a second path of v-v attention | learned vectors | the vectors, on photographs |
# | AA-CLIP | four levels, adapters in the first blocks | sentences, adapters | adapters, on images with masks |
# | AnoCLIP | v-v attention | sentences | nothing; adapted: a small layer on each slice |
#
# **Here the weights are random**, because the published weights are large and a notebook does not download them. Small
# networks with random weights run in seconds. They show the software: how to set up methods, compare them and draw
# their maps. They do not show what a method finds. The last section shows the same with the published weights.
#
# **For research only. Not a medical device, not for clinical use.**

# %% [markdown]
# ## Setup

# %%
# !python -c "import monai_zsad" || pip install -q git+https://github.com/monai-zsad/monai-zsad.git
# %matplotlib inline

# %%
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from scipy.stats import spearmanr

from monai_zsad import screen
from monai_zsad.evaluation.comparison.methods import compare_methods
from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.networks import AACLIP, AnoCLIP, AnomalyCLIP, Crane, TestTimeAdaptation
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.transforms import BodyMask
from monai_zsad.workflow.bundles import find_bundle, read_bundle
from monai_zsad.writers import comparison_figure

plt.rcParams["figure.dpi"] = 120

root = Path(os.environ.get("MONAI_DATA_DIRECTORY") or tempfile.mkdtemp()).resolve() / "methods"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## The scan as input of the networks
#
# A synthetic head that looks like a FLAIR image, with one bright lesion. The preprocessing is that of the bundles, and
# the same for all methods: upright slices, values in [0, 1], cropped to the body, square.

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3
image_size = 112  # of the small networks, in pixels

# %%
head = phantom_head(shape, spacing, seed=seed)
scan = write_phantom(head, "scan/head.nii.gz")
bundle = find_bundle("tiny_screening")
preprocessing = read_bundle(bundle, {"bundle_root": str(bundle)}).get_parsed_content("preprocessing")
volume = preprocessing({"image": str(scan), "case": "head"})["image"]
number = round(float((np.linalg.inv(head.affine) @ [*head.center_mm, 1])[2]))
print(f"{tuple(volume.shape)}: channel, X, Y, slices; the lesion is in slice {number}")

# %% [markdown]
# ## The networks
#
# Every method is a network that maps slices (B, C, H, W) with values in [0, 1] to (B, 2, H, W): the map and the score.
# Here they share one small CLIP architecture, and use `seed:0` instead of a weights file. A network without weights
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
    print(f"{name}: {sum(values.numel() for values in network.parameters()) / 1e6:.1f} million parameters")

# %% [markdown]
# ## One call for all
#
# `compare_methods` runs all methods on the same slices. Methods that use the same CLIP share one pass through it.
# AA-CLIP changes the features inside CLIP, so it runs separately.

# %%
comparison = compare_methods(
    networks, volume, slices=[number], inferer=VolumeSliceInferer(batch_size=2), case="random weights, not a finding"
)
for group in comparison.groups:
    print("one pass:", ", ".join(group))
print()
print(comparison.table())

# %% [markdown]
# ## Maps side by side
#
# All maps have one colour scale. With random weights, it covers only the values of this slice. With the published
# weights, use the full range from 0 to 1.

# %%
shown = comparison.numbers.index(number)
maps = {name: heat[0, ..., shown].numpy() for name, heat in comparison.maps.items()}
low, high = np.quantile(list(maps.values()), [0.01, 0.99])
figure = comparison.figure(number, limits=(float(low), float(high)))
figure.set_dpi(120)
display(figure)

# %% [markdown]
# ## How similar the methods are
#
# The rank correlation over the pixels of the body shows whether two methods have high values at the same positions. It
# does not depend on the scale of a map. Two methods that agree strongly do not give independent opinions.

# %%
inside = BodyMask()(volume)[0, ..., shown].numpy() > 0
correlation = spearmanr(np.stack([heat[inside] for heat in maps.values()], axis=1)).statistic

figure, axes = plt.subplots(figsize=(6.6, 4.8))
drawn = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
axes.set_xticks(range(len(maps)), maps, rotation=35, ha="right")
axes.set_yticks(range(len(maps)), maps)
for row, column in np.ndindex(correlation.shape):
    colour = "white" if abs(correlation[row, column]) > 0.6 else "black"
    axes.text(column, row, f"{correlation[row, column]:.2f}", ha="center", va="center", color=colour)
axes.set(xlabel="method", ylabel="method", title="Agreement of the maps\n(random weights, not a finding)")
figure.colorbar(drawn, label="correlation of ranks (no unit)")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What the adaptation does
#
# AnoCLIP can train a small layer on each slice, for a few steps. Its loss prefers pixels that are clearly normal or
# clearly abnormal, and a result that stays the same when noise is added. Every slice starts from the same layer, so the
# result does not depend on other slices. The figure shows what this changes. (Anterior is at the top, the patient's
# right side on the left.)

# %%
difference = maps["AnoCLIP, adapted"] - maps["AnoCLIP"]
extreme = float(abs(difference).max()) or 1.0
figure, axes = plt.subplots(figsize=(5.4, 4.2), layout="constrained")
drawn = axes.imshow(difference, cmap="RdBu_r", vmin=-extreme, vmax=extreme)
axes.set(xticks=[], yticks=[])
axes.set_title(f"adapted minus plain, slice {number}\n(random weights, not a finding)")
figure.colorbar(drawn, label="difference of the maps (no unit)")
plt.show()

# %% [markdown]
# ## The included model on the same slice
#
# `ScreeningCLIP`, the model that comes with the package, is a small network that was trained on brain tumours and on
# painted lesions; its weights are real. Do not compare it with the others: the networks above have learned nothing, and
# this one was trained for lesions such as this one.

# %%
result = screen(scan, anatomy="brain", modality="FLAIR", progress=False, report="none")
figure = comparison_figure(result.image, {"ScreeningCLIP": result.map}, number, title="The included model")
figure.set_dpi(120)
display(figure)

# %% [markdown]
# ## With the published weights
#
# They are downloaded once (CLIP has about 0.9 GB), and their hash is checked:
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
# python -m monai_zsad compare scan/head.nii.gz --output compared --bundle crane --bundle crane_plus
# ```
#
# The published prompts were learned on photographs of industrial objects. Expect false alarms in normal anatomy.
# Lesions smaller than the distance between patches may be missed. This project has not measured their accuracy.
#
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
