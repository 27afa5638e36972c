"""Programs for the machine the project is worked on."""
