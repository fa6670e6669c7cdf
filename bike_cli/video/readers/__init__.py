"""Readers: the frames of one file or folder, with PyAV, decord or Pillow."""
