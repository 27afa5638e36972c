"""The appliance's image on this machine: baked, run through its roles again, booted and tested."""
