"""Which detections of successive frames are the same object: online associators, and repair once a video is done."""
