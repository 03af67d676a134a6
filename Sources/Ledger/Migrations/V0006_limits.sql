-- Limits of what may run now, finer than an organization's cap: how many runs of a job, site, kind, device or
-- device lane. The empty key is every one of its scope that has no limit of its own.
CREATE TABLE run_limits (
    organization_id uuid NOT NULL REFERENCES organizations (id),
    scope text NOT NULL CHECK (scope IN ('job', 'site', 'kind', 'device', 'lane')),
    key text NOT NULL DEFAULT '' CHECK (octet_length(key) <= 64),
    running integer NOT NULL CHECK (running BETWEEN 1 AND 1000000),
    PRIMARY KEY (organization_id, scope, key)
);

-- How many runs of an organization may begin in a second, and at once.
CREATE TABLE run_rates (
    organization_id uuid PRIMARY KEY REFERENCES organizations (id),
    per_second double precision NOT NULL CHECK (per_second BETWEEN 0.01 AND 100000),
    burst integer NOT NULL CHECK (burst BETWEEN 1 AND 100000)
);

ALTER TABLE run_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_limits FORCE ROW LEVEL SECURITY;
ALTER TABLE run_rates ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_rates FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_limits
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
CREATE POLICY tenant ON run_rates
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
GRANT SELECT, INSERT, UPDATE, DELETE ON run_limits, run_rates TO crmm_api;
GRANT SELECT ON run_limits, run_rates TO crmm_worker;
