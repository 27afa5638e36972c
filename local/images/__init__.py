"""The appliance's image on this machine: the bake, and the tests of a booted copy."""
