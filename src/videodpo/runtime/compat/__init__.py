"""What this package uses of other libraries beyond their public API: one module per library, one file per upgrade."""
