"""Stream the frames of a long video at a fixed rate, in constant memory."""
