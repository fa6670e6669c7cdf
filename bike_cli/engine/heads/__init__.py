"""What scores frames after the towers: the heads of BIKE and few-shot classifiers."""
