"""Trains EP-SAM from labels of whole patches: tumour or normal, without any outline."""
