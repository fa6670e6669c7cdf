"""Turns frames and texts into scores. Uses torch and open_clip; knows nothing of inputs, commands or terminals."""
