"""Fine-tuning: a run, what it learns, and what it keeps."""
