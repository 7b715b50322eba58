"""Options of a run: the table that declares each once, and what is made of it."""
