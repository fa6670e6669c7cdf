"""The cache of video features on disk."""
