"""The checks of `bike doctor`, and the processes that run them."""
