"""The appliance's images: baked, tested, registered and pruned."""
