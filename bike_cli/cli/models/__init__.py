"""The command `bike eval`."""
