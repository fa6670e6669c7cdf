"""The command `bike classify`."""
