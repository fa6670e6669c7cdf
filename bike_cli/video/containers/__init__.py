"""What the bytes of video files say, read without a decoder."""
