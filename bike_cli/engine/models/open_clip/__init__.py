"""What comes with open_clip's weights: repositories, tokenizers, and how frames are prepared."""
