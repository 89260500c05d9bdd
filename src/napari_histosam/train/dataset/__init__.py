"""Builds data sets for training from the objects of many slides."""
