-- The use of an organization is compared with its jobs and runs now and then.

-- When that is due again. An organization without a row was never looked at.
CREATE TABLE queue_usage_checks (
    organization_id uuid PRIMARY KEY,
    due_at timestamptz NOT NULL
);
ALTER TABLE queue_usage_checks ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue_usage_checks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON queue_usage_checks
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
GRANT SELECT, INSERT, UPDATE (due_at) ON queue_usage_checks TO crmm_worker;

-- The scheduled runs of an organization: those of the other states have an index each. Its condition is
-- implied by nothing but itself, so that who looks for what is due, or has lapsed, never finds it.
CREATE INDEX runs_scheduled ON runs (organization_id, id) WHERE (state = 0) IS TRUE;
