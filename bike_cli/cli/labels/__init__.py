"""`bike labels`: check lists of labels, and describe labels."""
