//! Postgres: logical replication by pgoutput, and snapshots by COPY.
