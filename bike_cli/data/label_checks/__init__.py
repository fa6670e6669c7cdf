"""What is wrong with a list of labels, and how to fix it."""
