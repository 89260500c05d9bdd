"""The errors that reach a user: each message is one sentence with what, where and what to do."""

from __future__ import annotations


class HistosamError(Exception):
    """Base of all errors whose text may be shown to a user as it stands."""


class InputError(HistosamError):
    """What the user handed in cannot be used (command-line exit status 2)."""


class Cancelled(HistosamError):
    """The user stopped the work; nothing half-done is left behind."""
