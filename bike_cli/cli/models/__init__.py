"""The command `bike models`."""
