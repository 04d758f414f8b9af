"""Stores that last: SQL, with its migrations. The door is gpumax.stores.sql.SqlStore."""
