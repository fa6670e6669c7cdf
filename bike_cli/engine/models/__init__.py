"""Models as files: names, formats, checks, and loading."""
