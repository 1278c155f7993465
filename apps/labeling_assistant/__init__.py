"""The labeling assistant as an app: labelled frames in, the best algorithm found by measurement, whole videos labelled."""
