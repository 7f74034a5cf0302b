"""From a scan to the input of the network."""
