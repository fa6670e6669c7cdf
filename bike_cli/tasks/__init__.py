"""One file per job; composition only."""
