"""The image and text towers, and what they take in."""
