"""Auto Track: the app that the Video Annotation Tool talks to while a person labels; it drives the trackers."""
