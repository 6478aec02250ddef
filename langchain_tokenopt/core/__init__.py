"""What every room knows: errors, records, runs, messages, media."""
