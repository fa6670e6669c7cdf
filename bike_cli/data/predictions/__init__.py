"""Files of predictions: reading, checking and merging them."""
