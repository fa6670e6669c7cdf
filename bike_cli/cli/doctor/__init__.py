"""The command `bike doctor`."""
