"""Facts read from the bytes of video files, without decoding them."""
