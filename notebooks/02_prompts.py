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
# # Prompts: how they change the map
#
# The map shows where a slice is more similar to the prompts for *abnormal* than to those for *normal*. You can change
# the prompts without training. This notebook shows what a prompt set is, how other prompts change the map of the same
# scan, and how to make and compare your own sets.
#
# **For research only. Not a medical device, not for clinical use.** The text tower of the included model is small. It
# knows only the words in the lists of this package; other words have no meaning for it. Methods with a complete CLIP
# (AA-CLIP, AnoCLIP) accept any English sentence. But sentences with the same meaning for a reader can give quite
# different maps. Select prompts on scans that you do not use for the evaluation.

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
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch, SpatialCrop

from monai_zsad.prompts import PromptEnsemble, anatomies, modalities, set_names, states
from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.workflow.bundles import find_bundle
from monai_zsad.writers import comparison_figure
from monai_zsad.writers.figures.drawing import draw_contours, make_view

logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
plt.rcParams["figure.dpi"] = 80
print_config()

# %% [markdown]
# ## Setup a folder

# %%
directory = os.environ.get("MONAI_DATA_DIRECTORY")
root = Path(directory or tempfile.mkdtemp()).resolve() / "prompts"
root.mkdir(parents=True, exist_ok=True)
os.chdir(root)

# %% [markdown]
# ## What a prompt set is
#
# States ("{} with a hyperintense lesion") are inserted into templates ("a {image} of a {}"), together with the terms
# of an anatomy and a modality. Each set contains sentences for normal and for abnormal. Each pixel is compared with
# the mean feature of the normal sentences and with that of the abnormal ones. `python -m monai_zsad prompts list`
# lists all sets and terms.

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
# A T1-like phantom of a head with a dark lesion. A bright sphere is added on the other side, in the same slices. So
# both true lesions are known. (`RandLesion` paints more realistic ones, see `04_own_data`.)

# %% tags=["parameters"]
shape = (112, 112, 30)  # voxels along X, Y, Z
spacing = (2.0, 2.0, 5.5)  # mm
seed = 3
slices = 3  # that are run, around the lesions

# %%
head = phantom_head(shape, spacing, seed=seed, contrast="t1")

# The ball lies at the mirror image of the dark lesion's centre; its edge fades over 2 mm.
millimetres = np.moveaxis(np.indices(shape), 0, -1) * np.array(spacing) + head.affine[:3, 3]
distance = np.linalg.norm(millimetres - np.array(head.center_mm) * [-1, 1, 1], axis=-1)
share = np.clip((9 - distance) / 2 + 0.5, 0, 1)
both = head._replace(image=head.image + share * (1000 - head.image))
scan = write_phantom(both, "scan/head.nii.gz")
truth = np.where(head.lesion > 0, 1, np.where(share > 0.5, 2, 0))
print(f"{head.lesion_kind} lesion: {int((truth == 1).sum())} voxels")
print(f"bright ball: {int((truth == 2).sum())} voxels")

# %% [markdown]
# ## The model, ready for other prompts
#
# `ConfigWorkflow` reads the bundle and loads its weights; network, preprocessing and inferer can then be used
# separately. The volume is the input of the network: upright slices along the third axis, values in [0, 1]. A few
# slices through the lesions are sufficient here.

# %%
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
    modality="T1",
)
workflow.initialize()
network, inferer = workflow.network_def, workflow.inferer

prepared = workflow.preprocessing({"image": str(scan), "case": "head"})["image"]
window = prepared.meta["intensity"]
middle = (torch.linalg.inv(prepared.affine) @ torch.tensor([*head.center_mm, 1.0], dtype=prepared.affine.dtype))[2]
first = max(0, round(float(middle)) - slices // 2)
size = (*prepared.shape[1:3], slices)
volume = SpatialCrop(roi_start=(0, 0, first), roi_end=(*size[:2], first + slices))(prepared)
lesions = ResampleToMatch(mode="nearest")(MetaTensor(truth[None].astype(np.float32), affine=head.affine), volume)
print(f"{tuple(volume.shape)}; window: {window}")

# %% [markdown]
# New prompts need new text anchors: set `network.prompts`, then call `update_text_anchors`. The image encoder stays
# the same, so only the prompts cause the differences between the maps below.


# %%
def with_words(prompts):
    """The anomaly map of the volume under these words, and the direction from normal to abnormal that they give."""
    network.prompts = prompts
    network.update_text_anchors()
    with torch.no_grad():
        heat = MetaTensor(inferer(volume[None], network)[0, :1])
    normal, abnormal = network.text_anchors[0]
    return heat.copy_meta_from(volume), torch.nn.functional.normalize(abnormal - normal, dim=0)


words = {
    "general words": general,
    "bright": PromptEnsemble.named("medical", anatomy="brain", modality="T1", states=["hyperintense_lesion"]),
    "dark": PromptEnsemble.named("medical", anatomy="brain", modality="T1", states=["hypointense_lesion"]),
}
for name, prompts in words.items():
    print(f"{name:14s} {len(prompts.sentences):3d} sentences, such as: {prompts.abnormal[0]}")
results = {name: with_words(prompts) for name, prompts in words.items()}

# %% [markdown]
# ## The same slice with other prompts
#
# The dark lesion is outlined in cyan, the bright one in green.


# %%
def compare(maps, limits=(0.0, 1.0)):
    """The slice through the lesions under each map, with the truth."""
    index = slices // 2
    figure = comparison_figure(volume, maps, index, title=f"window: {window}", limits=limits)
    figure.set_dpi(72)
    own = make_view(volume, lesions, None, None, lesions)
    shown = index if volume.affine[2, 2] > 0 else slices - 1 - index
    for axes in figure.axes[: 1 + len(maps)]:
        draw_contours(axes, own, shown, {1: "cyan", 2: "lime"}, numbers=False)
    return figure


display(compare({name: heat for name, (heat, _) in results.items()}))

# %% [markdown]
# ## Mean values
#
# The mean of the map inside each lesion, and in the rest of the body, where it should be low. A set is good if the
# values in its lesion are clearly above the rest. A map that is high everywhere finds nothing.


# %%
def bars(maps, title):
    """Mean of each map in the two lesions and elsewhere in the body."""
    body = (volume[0] > 0.05).numpy()
    marks = lesions[0].numpy()
    regions = {
        "dark lesion": (marks == 1, "tab:cyan"),
        "bright lesion": (marks == 2, "tab:green"),
        "rest of the body": (body & (marks == 0), "0.6"),
    }
    _, axes = plt.subplots(figsize=(7.5, 2.8))
    for number, (name, (region, colour)) in enumerate(regions.items()):
        means = [float(heat[0].numpy()[region].mean()) for heat in maps.values()]
        axes.bar(np.arange(len(maps)) + 0.27 * (number - 1), means, 0.25, color=colour, label=name)
    axes.set_xticks(range(len(maps)), maps)
    axes.set(ylabel="mean of the map (no unit)", xlabel="words", ylim=(0, 1.25), title=title)
    axes.legend(fontsize=8, ncols=3, loc="upper center")
    axes.grid(axis="y", alpha=0.3)
    plt.show()


bars({name: heat for name, (heat, _) in results.items()}, "One scan, one encoder, other words")

# %% [markdown]
# ## Your own prompt set
#
# A set consists of lists of phrases, in which `{}` stands for the name, for example of the organ. For each abnormal
# phrase, add a phrase that says the opposite: only the difference counts, and words in both phrases cancel out. The
# words used here belong to those that the included model has learned.

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
print(own.describe())
Path("own.yaml").write_text(own.to_yaml())
print()
print(own.to_yaml())

# %% [markdown]
# `PromptEnsemble.from_yaml` reads the file. You can use it instead of the name of a set:
#
# ```bash
# python -m monai_zsad screen scan/head.nii.gz -o results --prompts own.yaml
# ```
#
# Findings in the library of the package are selected by name. Here are those for T1 of a brain:

# %%
fits = [key for key, state in states().items() if state.suits(anatomies()["brain"], modalities()["t1"])]
print(", ".join(fits))

# %% [markdown]
# ## Comparing sets
#
# You can compute the similarity of two sets *for this model* without any scan: it is the cosine between their
# directions from normal to abnormal. Sets with a cosine near 1 give nearly the same map, so the second set adds no
# information.

# %%
more = {
    "own set": PromptEnsemble.from_yaml("own.yaml"),
    "mass": PromptEnsemble.named("medical", anatomy="brain", modality="T1", states=["mass"]),
    "edema": PromptEnsemble.named("medical", anatomy="brain", modality="T1", states=["edema"]),
    "words for CT": PromptEnsemble.named("medical", anatomy="brain", modality="CT", states=["organ"]),
}
results |= {name: with_words(prompts) for name, prompts in more.items()}
directions = torch.stack([direction for _, direction in results.values()])
cosines = (directions @ directions.T).numpy()

figure, axes = plt.subplots(figsize=(6.2, 4.6))
picture = axes.imshow(cosines, cmap="viridis", vmin=min(0, cosines.min()), vmax=1)
axes.set_xticks(range(len(results)), results, rotation=35, ha="right")
axes.set_yticks(range(len(results)), results)
for row, column in np.ndindex(cosines.shape):
    colour = "black" if cosines[row, column] > 0.6 else "white"
    axes.text(column, row, f"{cosines[row, column]:.2f}", ha="center", va="center", fontsize=7, color=colour)
axes.set(title="How alike the sets are to this model", xlabel="words", ylabel="words")
figure.colorbar(picture, label="cosine of the directions (no unit)")
figure.tight_layout()
plt.show()

# %%
display(compare({name: results[name][0] for name in ("own set", "mass", "edema")}))
bars({name: heat for name, (heat, _) in results.items() if name != "words for CT"}, "The same scan, more sets")

# %% [markdown]
# Be careful with these results: one phantom shows how prompts act on this model. It does not show which set finds
# more disease. For this, you need scans with known lesions that were not used to select the prompts: see
# `04_own_data`.
#
# ## Cleanup

# %%
os.chdir(root.parents[1])
if directory is None:
    shutil.rmtree(root.parent)
