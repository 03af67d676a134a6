-- Schedule and retry: when a run may start first, how often it is tried again, and how its attempts ended.

ALTER TABLE jobs
    ADD COLUMN not_before timestamptz,
    -- A bit an outcome by raw value - 10: which of them are followed by another attempt.
    ADD COLUMN retry_on smallint NOT NULL DEFAULT 0,
    ADD COLUMN backoff_seconds integer NOT NULL DEFAULT 1,
    ADD COLUMN backoff_seconds_max integer NOT NULL DEFAULT 1,
    -- How many attempts of its runs were followed by another. Their deltas have the outcome 0.
    ADD COLUMN retried integer NOT NULL DEFAULT 0;

ALTER TABLE runs
    -- When a scheduled run is queued, on a grid of 100 ms: if it has a token, that attempt has ended. NULL as
    -- long as its silent device's word is awaited: the token's attempt is open.
    ADD COLUMN due_at timestamptz,
    -- The job's, so that settlement reads the jobs of those runs only that may be tried again.
    ADD COLUMN maximum_attempts smallint NOT NULL DEFAULT 1;

-- What is due, the earliest first; within an instant one organization after the other. Times stand on a grid,
-- so an instant has few organizations, and a walk over the pairs is no walk over the rows.
CREATE INDEX runs_due ON runs (due_at, organization_id, id) WHERE state = 0;
-- Runs whose open attempt waits for its device to speak.
CREATE INDEX runs_lapsed ON runs (organization_id, device_id, id) WHERE state = 0 AND due_at IS NULL;

ALTER TABLE attempts
    ADD COLUMN started_at timestamptz,
    ADD COLUMN finished_at timestamptz;
COMMENT ON COLUMN attempts.kind IS 'late, amended, retried';

-- The grid of due times: the next tenth of a second.
CREATE FUNCTION crmm_due(moment timestamptz) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT date_bin('100 milliseconds', moment + interval '99999 microseconds', '2000-01-01 00:00:00+00')
$$;

-- The longest wait after an attempt, counted from 1: Domain's Backoff.
CREATE FUNCTION crmm_backoff(base_seconds integer, limit_seconds integer, attempt integer)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT least(limit_seconds, base_seconds * 2::double precision ^ least(attempt - 1, 40))
$$;

-- As before, and the attempts that were followed by another are summed.
CREATE OR REPLACE FUNCTION crmm_fold(jobs_max integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    job record;
    folded integer := 0;
BEGIN
    FOR job IN
        WITH RECURSIVE waiting AS (
            (SELECT organization_id, job_id FROM job_deltas ORDER BY organization_id, job_id LIMIT 1)
            UNION ALL
            SELECT n.organization_id, n.job_id FROM waiting w
            CROSS JOIN LATERAL (
                SELECT d.organization_id, d.job_id FROM job_deltas d
                WHERE (d.organization_id, d.job_id) > (w.organization_id, w.job_id)
                ORDER BY d.organization_id, d.job_id LIMIT 1
            ) n
        )
        -- In (organization, id) order, one probe a job; no more are looked for than are locked.
        SELECT j.organization_id, j.id, j.total, j.ended FROM waiting w
        CROSS JOIN LATERAL (
            SELECT * FROM jobs j WHERE j.organization_id = w.organization_id AND j.id = w.job_id
            OFFSET 0 FOR UPDATE SKIP LOCKED
        ) j
        LIMIT jobs_max
    LOOP
        WITH gone AS (
            DELETE FROM job_deltas d WHERE d.organization_id = job.organization_id AND d.job_id = job.id
            RETURNING d.outcome, d.n
        ), summed AS (
            SELECT array_agg(e.n + coalesce(g.n, 0) ORDER BY e.place) AS ended,
                   sum(e.n + coalesce(g.n, 0)) AS all_ended
            FROM unnest(job.ended) WITH ORDINALITY AS e(n, place)
            LEFT JOIN (SELECT outcome, sum(n)::integer AS n FROM gone GROUP BY 1) g ON g.outcome = e.place + 9
            HAVING EXISTS (SELECT FROM gone)
        )
        UPDATE jobs j SET ended = s.ended,
               retried = j.retried
                         + coalesce((SELECT sum(g.n) FROM gone g WHERE g.outcome = 0)::integer, 0),
               state = CASE WHEN s.all_ended = job.total
                            THEN CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                            ELSE j.state END,
               finished_at = CASE WHEN s.all_ended = job.total THEN coalesce(j.finished_at, now())
                                  ELSE j.finished_at END
        FROM summed s WHERE j.organization_id = job.organization_id AND j.id = job.id;
        IF FOUND THEN folded := folded + 1; END IF;
    END LOOP;
    RETURN folded;
END $$;

-- Runs whose claims crashed, each time that a dispatcher took one alone. A row that is left is a crash:
-- whoever carried the claim through takes all of the run's away.
CREATE TABLE suspects (
    organization_id uuid NOT NULL,
    run_id uuid NOT NULL,
    -- Counts from 1.
    trial integer NOT NULL,
    attempt integer NOT NULL,
    owner text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, run_id, trial)
);
ALTER TABLE suspects ENABLE ROW LEVEL SECURITY;
ALTER TABLE suspects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON suspects
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));

ALTER TABLE jobs
    -- The job whose runs this one repeats.
    ADD COLUMN retry_of uuid;
ALTER TABLE run_history
    -- Whether it is a dead letter: nothing more is tried, and nobody has dealt with it yet.
    ADD COLUMN dead boolean NOT NULL DEFAULT false,
    -- The job that repeats it.
    ADD COLUMN redriven_as uuid;
CREATE INDEX run_history_dead ON run_history (id) WHERE dead;
CREATE INDEX run_history_dead_by_organization ON run_history (organization_id, id) WHERE dead;

GRANT UPDATE (retried) ON jobs TO crmm_worker;
GRANT UPDATE (due_at) ON runs TO crmm_worker, crmm_gateway;
GRANT SELECT (organization_id, run_id, attempt) ON run_output TO crmm_gateway;
GRANT UPDATE (attempt, stdout_head, stdout_tail, stdout_bytes, stderr_head, stderr_tail, stderr_bytes)
    ON run_output TO crmm_gateway;
GRANT SELECT ON attempts TO crmm_worker;
GRANT SELECT, INSERT, DELETE ON suspects TO crmm_worker;
GRANT SELECT ON suspects TO crmm_api;
GRANT UPDATE (dead, redriven_as) ON run_history TO crmm_api;
GRANT UPDATE (dead) ON run_history TO crmm_gateway;
