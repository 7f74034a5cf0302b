"""From a scan's images to the network's input: resampling, histogram, whitening."""
