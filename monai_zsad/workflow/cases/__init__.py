"""The cases of a run: names, order, prompts, and redaction of paths."""
