"""Labelled random scenarios: what happened, how it was captured, and what a judge may say of it."""
