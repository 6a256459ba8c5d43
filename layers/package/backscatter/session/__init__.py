"""Session records of others: what firewalls and networks counted where nobody captured packets."""
