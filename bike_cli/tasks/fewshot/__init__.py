"""Few-shot studies: methods, draws, and outcomes."""
