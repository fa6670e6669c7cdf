"""Segments of videos: where labels truly happen, and where they were detected."""
