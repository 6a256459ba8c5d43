"""From packet columns to the flow table: aggregation, TCP history, community id."""
