"""`bike calibrate`."""
