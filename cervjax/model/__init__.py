"""The dense V-Net, its layers, its weights and their card."""
