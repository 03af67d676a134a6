-- What goes on with jobs that are there: which are paused, by organization, and by what trace they came.

-- The jobs that are paused, so that refill knows which backlogs it has to walk past: an index on the state of
-- jobs would make every settlement write it. A row is no promise: a job that is paused when it ends leaves
-- one, which upkeep removes; what holds a run back is the state of its job.
CREATE TABLE paused_jobs (
    organization_id uuid NOT NULL,
    job_id uuid NOT NULL,
    PRIMARY KEY (organization_id, job_id)
);
ALTER TABLE paused_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE paused_jobs FORCE ROW LEVEL SECURITY;
-- Whoever may pause a job keeps its row: the statement that does writes only of jobs that its scope sees.
CREATE POLICY tenant ON paused_jobs
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR organization_id = (SELECT s.organization_id FROM sites s WHERE s.id = (SELECT crmm_site())));
GRANT SELECT, INSERT, DELETE ON paused_jobs TO crmm_api;
GRANT SELECT, DELETE ON paused_jobs TO crmm_worker;
INSERT INTO paused_jobs (organization_id, job_id) SELECT organization_id, id FROM jobs WHERE state = 2;

-- Slots whose jobs hold them no more are removed.
GRANT SELECT, DELETE ON job_slots TO crmm_worker;

-- The trace context that a job came with: trace (16 bytes), span of the request (8) and flags (1). Nothing is
-- decided by it.
ALTER TABLE jobs ADD COLUMN trace bytea CHECK (octet_length(trace) = 25);

-- An organization, and whoever is above it, says how many interactive runs go before its standard ones.
GRANT UPDATE (interactive_rate, interactive_burst) ON organizations TO crmm_api;
