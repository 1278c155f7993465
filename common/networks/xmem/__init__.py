"""XMem (Cheng and Schwing, ECCV 2022, https://arxiv.org/abs/2207.07115): masks followed with three kinds of memory."""
