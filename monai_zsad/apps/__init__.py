"""Programs for people: command line, bundle helpers."""
