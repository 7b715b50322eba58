"""``monai-zsad app``: a page on this machine to which a scan is dropped.

Gradio makes the page. It was chosen over Streamlit: its server is part of this process, so that the package's own
routes, limits and clean-up apply to it, and a run is one function call with progress. Streamlit runs its whole script
again for every click and starts through its own command line.
"""
