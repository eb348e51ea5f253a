"""Uses of other libraries beyond their public API: one module per library, so that an upgrade touches one file."""
