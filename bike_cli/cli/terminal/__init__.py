"""What commands share: output to the terminal, logs, and the files that they write."""
