"""What the tests stand on: paths, tiny modules and bundles, stand-ins for devices, and independent references."""
