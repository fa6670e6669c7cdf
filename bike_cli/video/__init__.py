"""A path becomes frames. NumPy and the decoders only; never torch."""
