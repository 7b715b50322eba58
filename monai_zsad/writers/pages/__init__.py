"""HTML pages of results: the report of a case, and the index of a folder of results."""
