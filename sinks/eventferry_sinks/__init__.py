"""The sink types that ship with eventferry: one folder each, loaded through entry points only when configured."""
