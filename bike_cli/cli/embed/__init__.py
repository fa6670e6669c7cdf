"""`bike embed`."""
