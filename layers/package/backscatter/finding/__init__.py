"""From the alert formats to one shape, Finding."""
