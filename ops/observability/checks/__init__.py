"""The doctor's checks, a module for each troubleshooting path of the manual."""
