"""The vectorised decoder: common shapes of packets, whole blocks at a time."""
