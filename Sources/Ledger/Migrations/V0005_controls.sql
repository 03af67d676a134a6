-- Operators' controls of the queues, and the processes that work on them.

-- A pause holds the mark back, a drain refuses submissions. What is NULL narrows nothing: a row with three
-- NULLs covers everything. The mark reads the pauses, by organization.
CREATE TABLE queue_controls (
    id uuid PRIMARY KEY,
    organization_id uuid REFERENCES organizations (id),
    kind text,
    priority smallint CHECK (priority BETWEEN 0 AND 2),
    -- 1 pause, 2 drain (Domain.ControlMode)
    mode smallint NOT NULL CHECK (mode IN (1, 2)),
    -- What the platform sets stands beside what a tenant sets, and only the platform lifts it.
    by_platform boolean NOT NULL,
    reason text CHECK (octet_length(reason) BETWEEN 1 AND 500),
    created_by uuid NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    -- The organization, or zeros for all: what statements probe.
    covered uuid NOT NULL
        GENERATED ALWAYS AS (coalesce(organization_id, '00000000-0000-0000-0000-000000000000')) STORED,
    UNIQUE NULLS NOT DISTINCT (covered, mode, kind, priority, by_platform)
);
-- Partial: conditions on pauses, planned while the table is empty, must have no other way than by covered.
CREATE INDEX queue_controls_draining ON queue_controls (id) WHERE mode = 2;
CREATE INDEX queue_controls_of_kinds ON queue_controls (covered, mode) WHERE kind IS NOT NULL;

ALTER TABLE queue_controls ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue_controls FORCE ROW LEVEL SECURITY;
-- Who is held back sees by what, be it by a control of all organizations; a site sees its organization's.
CREATE POLICY seen ON queue_controls FOR SELECT
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR (organization_id IS NULL
               AND ((SELECT crmm_partner()) IS NOT NULL OR (SELECT crmm_site()) IS NOT NULL
                    OR (SELECT cardinality(crmm_listed_organizations())) > 0))
           OR (SELECT crmm_is_platform())
           OR organization_id = (SELECT s.organization_id FROM sites s WHERE s.id = (SELECT crmm_site())));
CREATE POLICY made ON queue_controls FOR INSERT
    WITH CHECK (CASE WHEN (SELECT crmm_is_platform()) THEN by_platform
                     ELSE NOT by_platform
                          AND organization_id = ANY ((SELECT crmm_organizations())::uuid[]) END);
CREATE POLICY changed ON queue_controls FOR UPDATE
    USING (CASE WHEN (SELECT crmm_is_platform()) THEN by_platform
                ELSE NOT by_platform AND organization_id = ANY ((SELECT crmm_organizations())::uuid[]) END);
CREATE POLICY lifted ON queue_controls FOR DELETE
    USING ((SELECT crmm_is_platform())
           OR (NOT by_platform AND organization_id = ANY ((SELECT crmm_organizations())::uuid[])));
GRANT SELECT ON queue_controls TO crmm_api, crmm_worker;
GRANT INSERT, UPDATE (reason, created_by), DELETE ON queue_controls TO crmm_api;

-- A pause of an organization is a control like any other from now on.
INSERT INTO queue_controls (id, organization_id, mode, by_platform, created_by)
    SELECT crmm_uuid7(), id, 1, true, '00000000-0000-0000-0000-000000000000' FROM organizations WHERE paused;
ALTER TABLE organizations DROP COLUMN paused;
GRANT UPDATE (weight, running_cap) ON organizations TO crmm_api;

-- The pauses that may hold back runs of these organizations. A function, so that they are read after the
-- lock of crmm_accepts was waited for: whoever has set one and then waited for the marks that held the lock
-- knows that no mark without it comes any more.
CREATE FUNCTION crmm_pauses(accepted boolean, organizations uuid[])
RETURNS TABLE (organization_id uuid, kind text, priority smallint) LANGUAGE plpgsql VOLATILE ROWS 1 AS $$
BEGIN
    RETURN QUERY
        SELECT c.organization_id, c.kind, c.priority FROM queue_controls c
        WHERE accepted AND c.mode = 1
          AND c.covered = ANY (organizations || '00000000-0000-0000-0000-000000000000'::uuid);
END $$;

-- The roles of the processes that run, and of those that ran in the last day.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    -- api, gateway, worker
    role text NOT NULL,
    host text NOT NULL CHECK (octet_length(host) <= 255),
    process_id integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    drain_requested_at timestamptz,
    drain_requested_by uuid,
    -- Nothing is claimed and nothing is held any more.
    drained_at timestamptz,
    stopped_at timestamptz
);
CREATE INDEX workers_by_sight ON workers (seen_at);
ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
ALTER TABLE workers FORCE ROW LEVEL SECURITY;
CREATE POLICY platform ON workers USING ((SELECT crmm_is_platform()));
GRANT SELECT, INSERT, DELETE, UPDATE (seen_at, drained_at, stopped_at) ON workers
    TO crmm_api, crmm_worker, crmm_gateway;
GRANT UPDATE (drain_requested_at, drain_requested_by) ON workers TO crmm_api;

-- Which migrations were applied, for whoever examines an installation without being its owner.
CREATE FUNCTION crmm_schema_versions() RETURNS bigint[] LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(array_agg(version ORDER BY version), '{}') FROM crmm_migrations);
END $$;
REVOKE ALL ON FUNCTION crmm_schema_versions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crmm_schema_versions() TO crmm_api, crmm_worker, crmm_gateway;
