"""What the user brings: inputs, labels, lexicons. Standard library, YAML and NumPy only."""
