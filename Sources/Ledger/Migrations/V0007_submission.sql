-- What callers do to jobs that are committed: pauses of single jobs, and keys that are unique.

-- A paused job keeps its runs where they are: the mark wants state 1. Whoever ends its last run completes it.
GRANT UPDATE (state) ON jobs TO crmm_api;

-- Who has a unique key, a row a key and a place within which it is unique. A row outlives the job that has
-- it: whoever wants the key next looks whether that job holds it still, so no run that ends pays for it.
CREATE TABLE job_slots (
    organization_id uuid NOT NULL,
    -- The organization, the site or the device within which the key is unique, and the site of that.
    place uuid NOT NULL,
    site_id uuid,
    key text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 200),
    job_id uuid NOT NULL,
    -- Whether the job holds the key until it has ended; else until the first of its runs leaves.
    while_running boolean NOT NULL,
    -- Whether the job took the key from whoever held it, and from which.
    replaces boolean NOT NULL,
    replaced uuid,
    PRIMARY KEY (organization_id, place, key)
);
CREATE INDEX job_slots_by_job ON job_slots (job_id);
ALTER TABLE job_slots ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_slots FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON job_slots
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR site_id = (SELECT crmm_site()));
GRANT SELECT, INSERT, UPDATE (site_id, job_id, while_running, replaces, replaced) ON job_slots TO crmm_api;

-- Whether a job holds its key still. A volatile function, so that the job is read after the slot's row was
-- waited for: whoever had that has committed, and his job is seen.
CREATE FUNCTION crmm_holds(tenant uuid, holder uuid, until_end boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    job record;
BEGIN
    SELECT j.state, j.ended INTO job FROM jobs j WHERE j.organization_id = tenant AND j.id = holder;
    IF NOT FOUND OR job.state >= 10 THEN RETURN false; END IF;
    IF until_end THEN RETURN true; END IF;
    RETURN (SELECT sum(n) = 0 FROM unnest(job.ended) n)
        AND NOT EXISTS (SELECT FROM job_deltas d WHERE d.organization_id = tenant AND d.job_id = holder)
        AND NOT EXISTS (SELECT FROM (SELECT * FROM runs r WHERE r.job_id = holder OFFSET 0) r
                        WHERE r.organization_id = tenant AND r.attempt > 0);
END $$;

-- Whether a job has this idempotency key. Planned anew each time: with the table's size the unique index is
-- cheaper than the walk over a tenant's jobs, which on an empty table costs as much.
CREATE FUNCTION crmm_is_repeated(tenant uuid, submitter uuid, submission_key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jobs j WHERE j.organization_id = tenant AND j.created_by = submitter
                   AND j.idempotency_key = submission_key);
END $$;

-- Fails the transaction if one of these jobs has a slot and was not committed: its idempotency key came
-- first in another transaction. Whoever tries again sees that one.
CREATE FUNCTION crmm_require_jobs_of_slots(jobs_of_batch uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- A scalar subquery is a probe a slot; a join planned on empty tables would walk all jobs.
    IF EXISTS (SELECT FROM job_slots s WHERE s.job_id = ANY (jobs_of_batch)
               AND (SELECT true FROM jobs j WHERE j.id = s.job_id
                    AND j.organization_id = s.organization_id LIMIT 1) IS NULL) THEN
        RAISE EXCEPTION 'a slot without its job' USING ERRCODE = 'CR002';
    END IF;
END $$;
