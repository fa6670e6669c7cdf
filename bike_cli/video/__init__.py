"""Read frames from video files. This package never imports torch."""
