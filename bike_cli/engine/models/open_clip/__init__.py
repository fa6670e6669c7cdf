"""What open_clip's weights need: repositories, tokenizers, text models, and the preprocessing of frames."""
