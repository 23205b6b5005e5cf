"""Signals an operator may connect to."""

from django.dispatch import Signal

# Sent once a month per user and threshold, after it was recorded; `event` is the ThresholdEvent.
# Connect a receiver to send mail, for one.
quota_threshold_crossed = Signal()
