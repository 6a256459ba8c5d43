"""Flow segments, the capture catalogue, findings and verdicts, over one port to a table of items."""
