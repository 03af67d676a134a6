-- How many interactive runs of an organization go before its standard ones: a second, and at once. NULL is
-- the default of the queue; what exceeds it is served as standard.
ALTER TABLE organizations
    ADD COLUMN interactive_rate double precision CHECK (interactive_rate BETWEEN 0.01 AND 10000),
    ADD COLUMN interactive_burst integer CHECK (interactive_burst BETWEEN 0 AND 100000);
