"""From records to packet columns: link layers, tunnels, IP, TCP, UDP, ICMP."""
