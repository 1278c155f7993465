"""From pictures to identities: detect, associate, repair; resumable, in memory that does not grow with the video."""
