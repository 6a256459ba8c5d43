"""From bytes to packet records: containers, compression, damage."""
