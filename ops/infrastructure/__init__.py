"""Stacks and schema: deployed, migrated, destroyed."""
