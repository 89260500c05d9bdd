"""Trains a SAM behind the bundled encoder, for machines on which SAM's own weights are not."""
