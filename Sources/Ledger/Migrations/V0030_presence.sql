-- How a device went, and how far its clock is off: what its gateway notes beside when it was seen.

ALTER TABLE devices
    -- 1: its agent took leave; 2: its gateway closed the session. Nothing: it is there, or it vanished.
    ADD COLUMN departure smallint CHECK (departure IN (1, 2)),
    -- Its clock less the gateway's, in milliseconds, at its last hello; nothing where it did not say.
    ADD COLUMN clock_skew_ms bigint;

GRANT UPDATE (departure, clock_skew_ms) ON devices TO crmm_gateway;
