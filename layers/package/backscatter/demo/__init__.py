"""The 2007 case, made from its published numbers, and played on a local cloud."""
