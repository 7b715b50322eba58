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
# # Prompts: how they change the map
#
# The map shows where a slice is more similar to the prompts for *abnormal* than to those for *normal*. You can change
# the prompts without any training. This notebook screens one scan with several prompt sets, makes an own set, and
# compares the sets.
#
# **For research only. Not a medical device, not for clinical use.** The text tower of the included model is small. It
# knows only the words in the lists of this package; other words have no meaning for it. Methods with a complete CLIP
# (AA-CLIP, AnoCLIP) accept any English sentence. Select prompts on scans that you do not use for the evaluation.

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
import torch
from IPython.display import display

from monai_zsad import screen
from monai_zsad.prompts import PromptEnsemble, anatomies, modalities, set_names, states
from monai_zsad.synthesis import phantom_head
from monai_zsad.workflow.bundles import bundle_network, find_bundle, load_weights
from monai_zsad.writers import comparison_figure
from monai_zsad.writers.figures.drawing import draw_contours, make_view

plt.rcParams["figure.dpi"] = 120

root = Path(os.environ.get("MONAI_DATA_DIRECTORY") or tempfile.mkdtemp()).resolve() / "prompts"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## What a prompt set is
#
# A set has sentences for normal and for abnormal. They are made from states ("{} with a hyperintense lesion"),
# templates ("a {image} of a {}") and the names of an anatomy and a modality. Each pixel is compared with the mean of
# the normal sentences and with the mean of the abnormal ones. `python -m monai_zsad prompts list` lists all sets.

# %%
print("sets:", ", ".join(set_names()))
general = PromptEnsemble.named("medical", anatomy="brain", modality="T1")
print(f"\n{general.describe()}\n")
for kind in ("normal", "abnormal"):
    sentences = getattr(general, kind)
    print(f"{kind}: " + "; ".join(sentences[:: max(1, len(sentences) // 4)][:4]) + "; ...")

# %% [markdown]
# ## A scan with two lesions
#
# A synthetic head that looks like a T1 image, with a dark lesion. We add a bright ball on the other side. So both true
# lesions are known.

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3

# %%
head = phantom_head(shape, spacing, seed=seed, contrast="t1")
millimetres = np.moveaxis(np.indices(shape), 0, -1) * np.array(spacing) + head.affine[:3, 3]
distance = np.linalg.norm(millimetres - np.array(head.center_mm) * [-1, 1, 1], axis=-1)
ball = np.clip((9 - distance) / 2 + 0.5, 0, 1)  # its edge fades over 2 mm
scan = head.image + ball * (1000 - head.image)
truth = np.where(head.lesion > 0, 1, np.where(ball > 0.5, 2, 0))
print(f"dark lesion: {(truth == 1).sum()} voxels, bright ball: {(truth == 2).sum()} voxels")

# %% [markdown]
# ## The same scan with other prompts
#
# Without options, the included bundle asks for the sign of disease that is typical for the modality: on T1, a dark
# (hypointense) lesion. `state` chooses another sign, `prompts` another set. The set `medical` has all signs that suit
# the anatomy and the modality. The image encoder stays the same, so only the prompts cause the differences. The dark
# lesion is outlined in cyan, the bright one in green.

# %%
choices = {
    "default": {},
    "bright": {"state": ["hyperintense_lesion"]},
    "medical": {"prompts": "medical"},
}
maps = {}
for name, chosen in choices.items():
    result = screen(scan, affine=head.affine, anatomy="brain", modality="T1", progress=False, report="none", **chosen)
    maps[name] = result.map

# %%
view = make_view(scan, truth, head.affine, "axial", truth)
index = view.index_of(head.center_mm)


def show(maps):
    """The slice through the lesions under each map, with the outlines of both."""
    figure = comparison_figure(scan, maps, index, affine=head.affine, title="The slice through the lesions")
    for axes in figure.axes[: 1 + len(maps)]:
        draw_contours(axes, view, index, {1: "cyan", 2: "lime"}, numbers=False)
    figure.set_dpi(120)
    display(figure)


show(maps)

# %% [markdown]
# ## Your own prompt set
#
# A set is a file with lists of phrases, in which `{}` stands for the name, for example of the organ. For each abnormal
# phrase, add a phrase that says the opposite: words that are in both cancel out. The words here are words that the
# included model has learned.

# %%
own = PromptEnsemble(
    normal=["normal {}", "{} without a lesion", "{} without a dark lesion", "{} without a bright lesion"],
    abnormal=["abnormal {}", "{} with a lesion", "{} with a dark lesion", "{} with a bright lesion"],
    templates=["a {image} of a {}", "a {image} showing a {}"],
    images=["T1-weighted image", "T1-weighted MRI scan"],
    name="brain",
    description="bright and dark lesions alike",
    source="own",
)
Path("own.yaml").write_text(own.to_yaml())
print(own.to_yaml())

# %% [markdown]
# On the command line: `python -m monai_zsad screen scan.nii.gz -o results --prompts own.yaml`. In Python:

# %%
result = screen(scan, affine=head.affine, prompts="own.yaml", progress=False, report="none")
maps["own set"] = result.map
show({"own set": maps["own set"]})

# %% [markdown]
# States of the library are chosen by name. These suit a T1 image of a brain:

# %%
print(", ".join(key for key, state in states().items() if state.suits(anatomies()["brain"], modalities()["t1"])))

# %% [markdown]
# ## Mean values
#
# The mean of each map inside the lesions, and in the rest of the body. A set is good if the values in its lesion are
# clearly above the rest. A map that is high everywhere finds nothing.

# %%
body = scan > 0.05 * scan.max()
regions = {"dark lesion": truth == 1, "bright lesion": truth == 2, "rest of the body": body & (truth == 0)}
figure, axes = plt.subplots(figsize=(7.5, 3.2))
for number, (name, region) in enumerate(regions.items()):
    means = [float(heat[0].numpy()[region].mean()) for heat in maps.values()]
    colour = ("tab:cyan", "tab:green", "0.6")[number]
    axes.bar(np.arange(len(maps)) + 0.27 * (number - 1), means, 0.25, color=colour, label=name)
axes.set_xticks(range(len(maps)), maps)
axes.set(
    ylabel="mean of the map (no unit)", xlabel="prompts", ylim=(0, 1.3), title="One scan, one encoder, other prompts"
)
axes.legend(ncols=3, loc="upper center")
axes.grid(axis="y", alpha=0.3)
plt.show()

# %% [markdown]
# ## Comparing sets without a scan
#
# For a model, a set is a direction from normal to abnormal. The cosine of two directions shows how alike two sets are.
# Sets with a cosine near 1 give nearly the same map, so the second set adds no information.

# %%
bundle = find_bundle("tiny_screening")
network, released = bundle_network(bundle, bundle_root=str(bundle))
load_weights(network, {}, released, bundle / "models" / "model.pt")

library = {
    "medical": None,
    "dark": "hypointense_lesion",
    "bright": "hyperintense_lesion",
    "mass": "mass",
    "edema": "edema",
}
sets = {
    name: PromptEnsemble.named("medical", anatomy="brain", modality="T1", states=[state] if state else None)
    for name, state in library.items()
}
directions = []
for prompts in (*sets.values(), own):
    network.prompts = prompts
    network.update_text_anchors()
    normal, abnormal = network.text_anchors[0]
    directions.append(torch.nn.functional.normalize(abnormal - normal, dim=0))
cosines = (torch.stack(directions) @ torch.stack(directions).T).numpy()

names = [*sets, "own set"]
figure, axes = plt.subplots(figsize=(6.4, 4.8))
drawn = axes.imshow(cosines, cmap="viridis", vmin=min(0, cosines.min()), vmax=1)
axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
axes.set_yticks(range(len(names)), names)
for row, column in np.ndindex(cosines.shape):
    colour = "black" if cosines[row, column] > 0.6 else "white"
    axes.text(column, row, f"{cosines[row, column]:.2f}", ha="center", va="center", color=colour)
axes.set(title="How alike the sets are to this model", xlabel="prompts", ylabel="prompts")
figure.colorbar(drawn, label="cosine of the directions (no unit)")
figure.tight_layout()
plt.show()

# %% [markdown]
# One synthetic scan shows how prompts act on this model. It does not show which set finds more disease. For this, you
# need scans with known lesions that were not used to select the prompts: see `04_own_data`.
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
