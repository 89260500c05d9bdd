"""What to look at first: the objects of a store, least certain first, and why."""

from napari_histosam.session.review.candidates import Candidates
from napari_histosam.session.review.decisions import accept, reject
from napari_histosam.session.review.queue import Entry, ReviewQueue
from napari_histosam.session.review.sorting import Plan, sort_objects

__all__ = ["Candidates", "Entry", "Plan", "ReviewQueue", "accept", "reject", "sort_objects"]
