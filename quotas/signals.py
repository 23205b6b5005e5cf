"""Signals that an operator may connect to."""

from django.dispatch import Signal

# Sent after a threshold was recorded: at most once per user, threshold and month. `event` is the ThresholdEvent.
# For example, a receiver may send mail.
quota_threshold_crossed = Signal()
