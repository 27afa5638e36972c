"""The appliance's images: bake, test, list and prune them."""
