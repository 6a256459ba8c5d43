"""From a finding, its flows and their coverage to a verdict, by a table of rules."""
