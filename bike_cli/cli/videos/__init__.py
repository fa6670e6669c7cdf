"""What the commands that answer for each video share: their inputs, labels, progress, and the loop of a run."""
