"""Frames and texts become scores. Knows torch and open_clip; never a path of the user, never a terminal."""
