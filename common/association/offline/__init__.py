"""What can be mended once a video is done and the future is known."""
