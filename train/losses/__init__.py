"""Losses of generator and discriminator; docs/architecture.md says what to add where."""
