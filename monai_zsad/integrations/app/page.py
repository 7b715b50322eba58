"""The page: where the scan is dropped, what can be chosen, and what is shown of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from monai_zsad.errors import ZsadError
from monai_zsad.integrations.app import views
from monai_zsad.integrations.app.choices import BundleChoice, modality_keys, state_keys
from monai_zsad.integrations.app.jobs import Jobs, Outcome
from monai_zsad.prompts import anatomies, set_names
from monai_zsad.workflow import ScreenedCase

__all__ = ["STYLE", "build_page", "theme"]

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
"""Style sheet of the page."""


# On a phone, the state of the run lies below the button.
_TO_STATUS = "() => { document.getElementById('zsad-status').scrollIntoView({block: 'nearest'}); return []; }"


def theme() -> Any:
    """Gradio's theme with fonts of the system; nothing is loaded for it."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build_page(jobs: Jobs, choices: Mapping[str, BundleChoice]) -> gr.Blocks:
    """Build the page.

    Args:
        jobs: runs of all pages.
        choices: bundles to offer; the first one is chosen.

    Returns:
        Gradio's page, without a server.
    """
    return _Page(jobs, choices).build()


class _Page:
    """Parts of the page and what they do. A page in a browser is known by the hash of its session."""

    def __init__(self, jobs: Jobs, choices: Mapping[str, BundleChoice]) -> None:
        self.jobs = jobs
        self.choices = dict(choices)
        self.outcomes: dict[str, Outcome] = {}

    def build(self) -> gr.Blocks:
        first = next(iter(self.choices.values()))
        with gr.Blocks(title="monai-zsad", analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(views.header(), padding=False, elem_id="zsad-header")
            with gr.Row():
                with gr.Column(scale=1, min_width=330, elem_id="zsad-settings"):
                    self._add_scan()
                    self._add_settings(first)
                with gr.Column(scale=3, min_width=320, elem_id="zsad-results"):
                    self._add_results()
            self._connect(blocks)
        return blocks

    def _add_scan(self) -> None:
        self.upload = gr.File(label="Scan", file_count="multiple", height=130, elem_id="zsad-upload")
        self.uploaded = gr.HTML(views.message(views.FORMATS), padding=False, elem_id="zsad-uploaded")
        self.sample = gr.Button("Use the sample scan", size="sm", elem_id="zsad-sample")

    def _add_settings(self, first: BundleChoice) -> None:
        named = [(views.label(choice), name) for name, choice in self.choices.items()]
        self.bundle = gr.Dropdown(named, value=first.name, label="Bundle", elem_id="zsad-bundle")
        self.remedy = gr.HTML(views.remedy(first), padding=False, elem_id="zsad-remedy")
        with gr.Row():
            self.anatomy = gr.Dropdown(
                [("not given", ""), *((key, key) for key in anatomies())],
                value="",
                label="Anatomy",
                min_width=130,
                visible=first.takes("anatomy"),
                elem_id="zsad-anatomy",
            )
            self.modality = gr.Dropdown(
                _modality_list(None),
                value="",
                label="Modality",
                min_width=130,
                visible=first.takes("modality"),
                elem_id="zsad-modality",
            )
        with gr.Accordion("Prompts", open=False, visible=_has_prompts(first), elem_id="zsad-more") as self.more:
            self.prompt_set = gr.Dropdown(
                list(set_names()),
                value=first.defaults.get("prompt_set"),
                label="Prompt set",
                visible=first.takes("prompt_set"),
                elem_id="zsad-prompts",
            )
            self.states = gr.Dropdown(
                state_keys(None, None),
                multiselect=True,
                label="Findings to look for",
                info="Empty: those of the prompt set.",
                visible=first.takes("states"),
                elem_id="zsad-states",
            )
        self.threshold = gr.Slider(0, 1, value=first.threshold, step=0.01, label="Threshold", elem_id="zsad-threshold")
        with gr.Row():
            self.run = gr.Button("Screen", variant="primary", min_width=120, elem_id="zsad-run")
            self.cancel = gr.Button("Cancel", variant="stop", min_width=120, visible=False, elem_id="zsad-cancel")
        self.measured = gr.HTML(views.measured(first), padding=False, elem_id="zsad-measured")

    def _add_results(self) -> None:
        self.status = gr.HTML(views.FIRST_STEPS, padding=False, elem_id="zsad-status", min_height=48)
        self.case = gr.Dropdown(label="Scan", visible=False, elem_id="zsad-case")
        self.links = gr.HTML(padding=False, elem_id="zsad-links")
        self.table = gr.HTML(padding=False, elem_id="zsad-candidates")
        self.report = gr.HTML(padding=False, elem_id="zsad-frame")

    def _connect(self, blocks: gr.Blocks) -> None:
        prompts = [self.anatomy, self.modality, self.prompt_set, self.states]
        results = [self.status, self.case, self.links, self.table, self.report]
        private: dict[str, Any] = {"api_visibility": "private"}
        quick: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        self.upload.upload(self._upload, [self.upload], [self.upload, self.uploaded], **private)
        self.upload.delete(self._upload, [self.upload], [self.upload, self.uploaded], **private)
        self.upload.clear(self._clear, None, [self.uploaded], **quick)
        self.sample.click(
            self._sample, [self.bundle], [self.upload, self.uploaded, self.anatomy, self.modality], **private
        )
        settings = [self.remedy, self.measured, *prompts, self.more, self.threshold]
        self.bundle.change(self._choose_bundle, [self.bundle], settings, **quick)
        self.anatomy.input(
            self._narrow, [self.anatomy, self.modality, self.states], [self.modality, self.states], **quick
        )
        self.modality.input(
            self._narrow, [self.anatomy, self.modality, self.states], [self.modality, self.states], **quick
        )
        self.run.click(self._ask, None, [self.run, self.cancel, *results], js=_TO_STATUS, **quick).then(
            self._run,
            [self.bundle, *prompts, self.threshold],
            results,
            show_progress="full",
            show_progress_on=[self.status],
            # The jobs have their own queue, in which a run that waits can be cancelled.
            concurrency_limit=None,
            **private,
        ).then(self._ready, [self.bundle], [self.run, self.cancel, self.remedy], **quick)
        self.cancel.click(self._cancel, None, [self.cancel], **quick)
        self.case.input(self._show, [self.case], results[2:], **quick)
        blocks.unload(self._unload)

    def _upload(self, files: list[str] | None, request: gr.Request) -> tuple[Any, str]:
        try:
            size = self.jobs.storage.take(self.jobs.storage.session(str(request.session_hash)), files or [])
        except ZsadError as error:
            return None, views.message(str(error), "problem")
        count = len(files or [])
        return gr.skip(), views.message(f"{count} {'file' if count == 1 else 'files'}, {size / 1e6:.1f} MB")

    def _clear(self, request: gr.Request) -> str:
        self.jobs.storage.take(self.jobs.storage.session(str(request.session_hash)), [])
        return views.message(views.FORMATS)

    def _sample(self, bundle: str, request: gr.Request) -> tuple[Any, ...]:
        self.jobs.storage.take(self.jobs.storage.session(str(request.session_hash)), [self.jobs.sample()])
        takes = self.choices[bundle].takes
        return (
            None,
            views.message("The sample scan: a synthetic head with one lesion, FLAIR."),
            "brain" if takes("anatomy") else gr.skip(),
            "flair" if takes("modality") else gr.skip(),
        )

    def _choose_bundle(self, bundle: str) -> tuple[Any, ...]:
        choice = self.choices[bundle]
        return (
            views.remedy(choice),
            views.measured(choice),
            gr.update(visible=choice.takes("anatomy"), value=choice.defaults.get("anatomy") or ""),
            gr.update(visible=choice.takes("modality"), value=choice.defaults.get("modality") or ""),
            gr.update(visible=choice.takes("prompt_set"), value=choice.defaults.get("prompt_set")),
            gr.update(visible=choice.takes("states"), value=choice.defaults.get("states") or []),
            gr.update(visible=_has_prompts(choice)),
            choice.threshold,
        )

    def _narrow(self, anatomy: str, modality: str, states: list[str] | None) -> tuple[Any, Any]:
        """Offer only the modalities and findings that fit; drop the others from what is chosen."""
        offered = _modality_list(anatomy or None)
        kept = modality if modality in [key for _, key in offered] else ""
        keys = state_keys(anatomy or None, kept or None)
        return (
            gr.update(choices=offered, value=kept),
            gr.update(choices=keys, value=[state for state in states or [] if state in keys]),
        )

    def _ask(self, request: gr.Request) -> tuple[Any, ...]:
        self.jobs.ask(str(request.session_hash))
        return gr.update(interactive=False), gr.update(visible=True, interactive=True), "", *_nothing()

    def _run(
        self,
        bundle: str,
        anatomy: str,
        modality: str,
        prompt_set: str,
        states: list[str],
        threshold: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio looks for it there
    ) -> tuple[Any, ...]:
        page = str(request.session_hash)
        values = {
            "anatomy": anatomy,
            "modality": modality,
            "prompt_set": prompt_set,
            "states": states,
            "candidate_threshold": threshold,
        }

        def report(share: float, text: str) -> None:
            progress(min(max(share, 0.0), 1.0), desc=text)

        outcome = self.jobs.run(page, BundleChoice.read(bundle), values, report)
        self.outcomes[page] = outcome
        if not outcome.cases:
            return views.verdict(outcome, None), *_nothing()
        first = outcome.cases[0]
        several = len(outcome.cases) > 1
        names = [case.case for case in outcome.cases]
        return (
            views.verdict(outcome, first),
            gr.update(choices=names, value=first.case, visible=several),
            *_shown(outcome.token, first),
        )

    def _ready(self, bundle: str) -> tuple[Any, ...]:
        # Weights may have been fetched since the page was opened.
        self.choices[bundle] = BundleChoice.read(bundle)
        return gr.update(interactive=True), gr.update(visible=False, value="Cancel"), views.remedy(self.choices[bundle])

    def _cancel(self, request: gr.Request) -> Any:
        self.jobs.cancel(str(request.session_hash))
        return gr.update(interactive=False, value="Cancelling")

    def _show(self, case: str, request: gr.Request) -> tuple[str, str, str]:
        outcome = self.outcomes.get(str(request.session_hash), Outcome())
        found = next((one for one in outcome.cases if one.case == case), None)
        return ("", "", "") if found is None else _shown(outcome.token, found)

    def _unload(self, request: gr.Request) -> None:
        page = str(request.session_hash)
        self.outcomes.pop(page, None)
        self.jobs.close(page)


def _shown(token: str, case: ScreenedCase) -> tuple[str, str, str]:
    return views.downloads(token, case), views.candidate_table(case), views.report_frame(token, case)


def _nothing() -> tuple[Any, ...]:
    """The results before there are any."""
    return gr.update(visible=False, choices=[], value=None), "", "", ""


def _has_prompts(choice: BundleChoice) -> bool:
    return choice.takes("prompt_set") or choice.takes("states")


def _modality_list(anatomy: str | None) -> list[tuple[str, str]]:
    return [("from scan", ""), *((key, key) for key in modality_keys(anatomy))]
