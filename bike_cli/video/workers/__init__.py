"""The processes that decode."""
